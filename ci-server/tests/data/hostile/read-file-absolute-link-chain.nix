# refused: No such file
builtins.readFile ./link-to-link
