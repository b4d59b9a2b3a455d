# refused:
builtins.findFile [ { prefix = ""; path = "@OUTSIDE@"; } ] "secret"
