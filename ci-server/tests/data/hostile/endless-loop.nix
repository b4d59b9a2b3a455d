# bounded
builtins.foldl' (a: b: a) 0 (builtins.genList (n: builtins.foldl' (a: b: b) 0 (builtins.genList (m: m) 1000)) 10000000)
