# refused: No such file
builtins.readFile /etc/nix/nix.conf
