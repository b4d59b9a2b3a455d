# refused:
builtins.importNative @OUTSIDE@/secret "main"
