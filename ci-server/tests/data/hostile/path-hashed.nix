# refused:
builtins.path { path = @OUTSIDE@/secret; name = "x"; recursive = false; sha256 = builtins.hashString "sha256" ""; }
