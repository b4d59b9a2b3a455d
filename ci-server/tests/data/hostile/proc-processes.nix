# value: true
builtins.length (builtins.filter (name: builtins.match "[0-9]+" name != null) (builtins.attrNames (builtins.readDir /proc))) < 8
