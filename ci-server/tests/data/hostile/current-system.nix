# value: "string"
builtins.typeOf builtins.currentSystem
