# refused: No such file
builtins.readFile "@OUTSIDE@/socket"
