# refused:
builtins.fetchGit { url = "@HOME@"; }
