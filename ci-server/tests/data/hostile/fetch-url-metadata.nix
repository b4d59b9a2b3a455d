# refused:
builtins.fetchurl "http://169.254.169.254/latest/meta-data/"
