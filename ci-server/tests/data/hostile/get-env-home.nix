# value: "/tmp/home"
builtins.getEnv "HOME"
