# any
builtins.readFile /proc/sys/kernel/core_pattern
