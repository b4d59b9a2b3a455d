# refused: No such file
builtins.path { path = @OUTSIDE@/secret; name = "x"; }
