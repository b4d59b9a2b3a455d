# refused:
builtins.storePath /nix/store/0000000000000000000000000000000-secret
