# bounded
let f = n: builtins.trace "job: ${toString n}" (f (n + 1)); in f 0
