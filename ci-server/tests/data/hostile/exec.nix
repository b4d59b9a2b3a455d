# refused:
builtins.exec [ "/bin/cat" "@OUTSIDE@/secret" ]
