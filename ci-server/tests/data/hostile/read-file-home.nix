# refused: No such file | does not exist
builtins.readFile "@HOME@/secret"
