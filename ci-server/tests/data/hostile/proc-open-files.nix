# any
builtins.readDir /proc/self/fd
