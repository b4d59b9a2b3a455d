# value: false
let etc = builtins.readDir /etc; in etc ? shadow || etc ? hostname || etc ? machine-id || etc ? ssh || etc ? nix
