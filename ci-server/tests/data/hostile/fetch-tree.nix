# refused:
builtins.fetchTree { type = "tarball"; url = "http://127.0.0.1:@PORT@/secret.tar.gz"; }
