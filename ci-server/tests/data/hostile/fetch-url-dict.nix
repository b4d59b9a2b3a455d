# refused:
builtins.fetchurl "dict://127.0.0.1:@PORT@/d:secret"
