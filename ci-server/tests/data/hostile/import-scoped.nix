# refused: No such file
scopedImport { } @OUTSIDE@/secret
