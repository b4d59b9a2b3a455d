# refused:
builtins.readFile ((builtins.toFile "link" "@OUTSIDE@/secret") + "/../../../..@OUTSIDE@/secret")
