# refused: No such file
builtins.readDir (builtins.toPath "@HOME@/.ssh")
