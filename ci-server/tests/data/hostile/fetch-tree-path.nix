# refused:
builtins.fetchTree { type = "path"; path = "@OUTSIDE@/secret"; }
