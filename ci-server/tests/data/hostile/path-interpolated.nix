# refused: No such file
"${@OUTSIDE@/secret}"
