# refused: No such file | does not exist
builtins.readFile "/proc/self/cwd/../secret"
