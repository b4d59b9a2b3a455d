# refused:
builtins.fetchurl "http://0x7f.1:@PORT@/secret"
