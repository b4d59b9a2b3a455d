# The only commands a newcomer needs. Each is a script in scripts/, which says at its top what it does; pass it
# arguments with ARGS, as in `make test ARGS='-p hook-wire'`. `install` and `uninstall` take PREFIX and DESTDIR.
.PHONY: demo test test-nix-matrix lint bench chaos fuzz fmt deny docs check-modules install uninstall

demo test test-nix-matrix lint bench chaos fuzz fmt deny docs check-modules install:
	@scripts/$@ $(ARGS)

uninstall:
	@scripts/install uninstall
