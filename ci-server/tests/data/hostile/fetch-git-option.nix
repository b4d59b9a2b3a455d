# refused:
builtins.fetchGit { url = "file://@OUTSIDE@/repository"; ref = "--upload-pack=cat @OUTSIDE@/secret >&2"; }
