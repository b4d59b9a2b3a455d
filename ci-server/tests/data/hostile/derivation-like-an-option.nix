# any
(derivation { name = "--option"; system = "--store"; builder = "-E"; args = [ "--help" ]; }).drvPath
