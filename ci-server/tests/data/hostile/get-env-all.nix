# value: ""
builtins.concatStringsSep "" (map builtins.getEnv [ "AWS_SECRET_ACCESS_KEY" "GITHUB_TOKEN" "SSH_AUTH_SOCK" "USER" "CARGO" "CARGO_MANIFEST_DIR" "LD_LIBRARY_PATH" "NIX_PATH" ])
