# refused: No such file
builtins.fromJSON (builtins.readFile @OUTSIDE@/secret)
