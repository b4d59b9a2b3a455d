# any
builtins.filterSource (path: type: builtins.trace path true) @OUTSIDE@
