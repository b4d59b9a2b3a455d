# refused: No such file | does not exist
builtins.hashFile "sha256" @OUTSIDE@/secret
