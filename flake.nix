# The package, the NixOS modules, a shell to develop in, and checks. In: nixpkgs, with Rust 1.95 or newer. Out: the
# flake's outputs; what they consist of is in nixos/. Leaves out the tests of the workspace: `make test` runs them.
{
  description = "Eka CI: a durable queue from Nix' builds to binary caches, and what a change of packages touches";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      forEachSystem =
        make: nixpkgs.lib.genAttrs [ "aarch64-linux" "x86_64-linux" ] (system: make nixpkgs.legacyPackages.${system});
      package = pkgs: pkgs.callPackage ./nixos/package.nix { };
    in
    {
      packages = forEachSystem (pkgs: {
        default = package pkgs;
        eka-ci = package pkgs;
      });

      overlays.default = final: _prev: { eka-ci = package final; };

      nixosModules = {
        default.imports = [ ./nixos/modules ];
        eka-queue.imports = [ ./nixos/modules/eka-queue.nix ];
        nix-post-build-hook-queue.imports = [ ./nixos/modules/nix-post-build-hook-queue.nix ];
      };

      devShells = forEachSystem (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ (package pkgs) ];
          packages = with pkgs; [ busybox-sandbox-shell cargo clippy mdbook nix openssh rustc rustfmt ];
        };
      });

      checks = forEachSystem (pkgs: {
        package = package pkgs;
        modules = import ./nixos/tests/promises.nix { inherit pkgs nixpkgs; };
        s3 = import ./nixos/tests/vm-s3.nix { inherit pkgs; };
        ssh = import ./nixos/tests/vm-ssh.nix { inherit pkgs; };
      });
    };
}
