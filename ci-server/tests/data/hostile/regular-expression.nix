# bounded
builtins.match "((a|a)*)*b" (builtins.concatStringsSep "" (builtins.genList (n: "a") 100000))
