# refused: No such file
builtins.readFile ./../secret
