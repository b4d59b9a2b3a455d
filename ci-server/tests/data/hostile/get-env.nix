# value: ""
builtins.getEnv "@VARIABLE@"
