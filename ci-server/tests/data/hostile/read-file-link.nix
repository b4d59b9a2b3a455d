# refused: No such file
builtins.readFile ./link-to-secret
