# refused: No such file | does not exist
builtins.readDir (builtins.toPath "@HOME@/.ssh")
