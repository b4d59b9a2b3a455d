# refused: No such file
builtins.readFile "/proc/self/cwd/../secret"
