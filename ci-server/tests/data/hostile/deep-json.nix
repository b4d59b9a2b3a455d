# bounded
builtins.fromJSON (builtins.concatStringsSep "" (builtins.genList (n: "[") 3000000))
