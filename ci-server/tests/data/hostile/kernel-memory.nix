# refused:
builtins.readFile /proc/kcore
