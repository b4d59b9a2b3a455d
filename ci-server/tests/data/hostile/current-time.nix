# value: true
builtins.currentTime > 0
