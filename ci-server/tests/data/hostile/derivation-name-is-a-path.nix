# refused:
(derivation { name = "../../secret"; system = "x"; builder = "x"; }).drvPath
