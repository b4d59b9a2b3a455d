# refused:
builtins.fetchGit { url = "--upload-pack=cat @OUTSIDE@/secret >&2"; }
