# refused: No such file
builtins.readFile ./../../../../../../../../../../../../../../../../etc/shadow
