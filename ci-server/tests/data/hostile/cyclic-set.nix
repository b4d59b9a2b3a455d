# bounded
let x = { y = x; }; in builtins.toJSON x
