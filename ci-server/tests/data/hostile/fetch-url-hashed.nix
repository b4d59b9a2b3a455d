# refused:
builtins.fetchurl { url = "http://127.0.0.1:@PORT@/secret"; sha256 = builtins.hashString "sha256" "x"; }
