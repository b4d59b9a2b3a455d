# refused:
builtins.getFlake "path:@OUTSIDE@"
