# any
builtins.readFile /proc/1/environ
