# refused:
builtins.fetchTarball "file://@OUTSIDE@/secret"
