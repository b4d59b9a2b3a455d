# refused:
builtins.readFile (<nix/fetchurl.nix> + "/../../../../../../../..@OUTSIDE@/secret")
