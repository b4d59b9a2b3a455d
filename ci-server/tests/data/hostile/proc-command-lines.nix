# any
map (pid: builtins.readFile (/proc + "/${pid}/cmdline")) (builtins.filter (name: builtins.match "[0-9]+" name != null) (builtins.attrNames (builtins.readDir /proc)))
