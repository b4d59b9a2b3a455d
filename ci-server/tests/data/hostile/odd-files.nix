# any
builtins.readDir ./odd
