# any
builtins.readFile /proc/self/environ
