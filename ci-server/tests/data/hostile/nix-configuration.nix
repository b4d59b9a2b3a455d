# refused: No such file | does not exist
builtins.readFile /etc/nix/nix.conf
