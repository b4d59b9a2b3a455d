# refused:
builtins.fetchGit "ext::sh -c cat% @OUTSIDE@/secret%>&2"
