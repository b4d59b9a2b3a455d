# refused:
builtins.readFile /proc/1/mem
