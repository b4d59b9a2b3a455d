# value: 200000
builtins.length (builtins.attrNames (builtins.listToAttrs (builtins.genList (n: { name = "attribute-${toString n}"; value = n; }) 200000)))
