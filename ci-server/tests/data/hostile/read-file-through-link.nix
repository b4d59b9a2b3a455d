# refused: No such file
builtins.readFile (./link-to-outside + "/secret")
