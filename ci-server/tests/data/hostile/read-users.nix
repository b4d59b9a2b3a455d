# value: true
builtins.match "nobody:[^\n]*\n" (builtins.readFile /etc/passwd) == [ ]
