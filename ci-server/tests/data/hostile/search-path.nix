# refused:
let __nixPath = [ { prefix = "out"; path = "@OUTSIDE@"; } ]; in builtins.readFile <out/secret>
