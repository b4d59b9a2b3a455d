# refused:
import (derivation { name = "ifd"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "cat @OUTSIDE@/secret > $out" ]; })
