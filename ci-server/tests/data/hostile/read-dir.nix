# value: {"checkout":"directory"}
builtins.readDir @OUTSIDE@
