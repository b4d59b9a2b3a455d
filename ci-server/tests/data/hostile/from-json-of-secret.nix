# refused: No such file | does not exist
builtins.fromJSON (builtins.readFile @OUTSIDE@/secret)
