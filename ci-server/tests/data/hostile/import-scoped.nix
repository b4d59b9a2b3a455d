# refused: No such file | does not exist
scopedImport { } @OUTSIDE@/secret
