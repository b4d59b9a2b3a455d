# refused: No such file | does not exist
builtins.readFile @OUTSIDE@/secret
