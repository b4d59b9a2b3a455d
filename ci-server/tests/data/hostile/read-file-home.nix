# refused: No such file
builtins.readFile "@HOME@/secret"
