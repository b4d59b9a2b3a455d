# refused:
builtins.readDir (derivation { name = "ifd"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "mkdir $out; cp @OUTSIDE@/secret $out" ]; })
