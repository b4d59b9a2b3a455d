# refused: No such file | does not exist
builtins.path { path = @OUTSIDE@/secret; name = "x"; }
