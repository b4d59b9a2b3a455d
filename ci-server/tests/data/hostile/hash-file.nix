# refused: No such file
builtins.hashFile "sha256" @OUTSIDE@/secret
