# refused:
builtins.readFile "/proc/1/root@OUTSIDE@/secret"
