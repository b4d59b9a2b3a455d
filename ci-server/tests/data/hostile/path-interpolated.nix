# refused: No such file | does not exist
"${@OUTSIDE@/secret}"
