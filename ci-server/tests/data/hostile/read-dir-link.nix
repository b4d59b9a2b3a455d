# value: {"checkout":"directory"}
builtins.readDir ./link-to-outside
