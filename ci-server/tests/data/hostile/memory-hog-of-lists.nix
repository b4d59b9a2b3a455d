# bounded
builtins.length (builtins.concatLists (builtins.genList (n: builtins.genList (m: m) 1000000) 1000000))
