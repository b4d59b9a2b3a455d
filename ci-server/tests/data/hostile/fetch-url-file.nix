# refused:
builtins.fetchurl "file://@OUTSIDE@/secret"
