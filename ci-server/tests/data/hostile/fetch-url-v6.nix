# refused:
builtins.fetchurl "http://[::1]:@PORT@/secret"
