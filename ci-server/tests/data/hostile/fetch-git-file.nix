# refused:
builtins.fetchGit "file://@OUTSIDE@/repository"
