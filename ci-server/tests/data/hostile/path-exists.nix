# value: false
builtins.pathExists @OUTSIDE@/secret || builtins.pathExists @HOME@/secret || builtins.pathExists /etc/shadow
