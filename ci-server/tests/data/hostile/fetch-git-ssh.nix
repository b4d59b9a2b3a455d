# refused:
builtins.fetchGit "ssh://nobody@127.0.0.1:@PORT@/secret.git"
