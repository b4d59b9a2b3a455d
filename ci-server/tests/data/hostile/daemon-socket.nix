# refused:
builtins.readFile "/nix/var/nix/daemon-socket/socket"
