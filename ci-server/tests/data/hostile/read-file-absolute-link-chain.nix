# refused: No such file | does not exist
builtins.readFile ./link-to-link
