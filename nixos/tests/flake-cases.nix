# What flake.nix and the package promise, as named booleans. In: the stand-in for nixpkgs. Out: booleans that must all be
# true. Leaves out building anything, and machines.
{ standIn }:
let
  inherit (standIn) lib;
  stub = lib // {
    cleanSource = path: path;
    cleanSourceWith = given: given;
    genAttrs = names: make: lib.listToAttrs (map (name: lib.nameValuePair name (make name)) names);
    licenses = { mit = "MIT"; asl20 = "Apache-2.0"; };
    platforms.linux = [ "x86_64-linux" ];
  };
  pkgs = standIn.pkgs // {
    callPackage =
      file: _:
      import file {
        lib = stub;
        inherit (standIn.pkgs) stdenv;
        installShellFiles = "";
        rustPlatform.buildRustPackage = given: given // { type = "derivation"; outPath = "/package"; };
      };
    mkShell = given: given;
    busybox-sandbox-shell = "busybox";
    cargo = "cargo";
    clippy = "clippy";
    mdbook = "mdbook";
    nix = "nix";
    rustc = "rustc";
    rustfmt = "rustfmt";
  };
  outputs = (import ../../flake.nix).outputs {
    self = { };
    nixpkgs = {
      lib = stub;
      legacyPackages = { x86_64-linux = pkgs; aarch64-linux = pkgs; };
    };
  };
  package = outputs.packages.x86_64-linux.default;
  root = toString ../..;
  takes = path: package.src.filter "${root}/${path}" "regular";
  machine = standIn.eval [
    outputs.nixosModules.default
    outputs.nixosModules.nix-post-build-hook-queue
    {
      services.eka-queue.enable = true;
      services.eka-queue.package = (outputs.overlays.default pkgs { }).eka-ci;
    }
  ];
in
{
  "flake: there is a package, a shell and checks for both systems" =
    lib.all
      (set: lib.attrNames set == [ "aarch64-linux" "x86_64-linux" ])
      [ outputs.packages outputs.devShells outputs.checks ]
    && package.pname == "eka-ci"
    && builtins.match "[0-9]+\\.[0-9]+\\.[0-9]+" package.version != null
    && outputs.devShells.x86_64-linux.default.inputsFrom == [ package ]
    && lib.attrNames outputs.checks.x86_64-linux == [ "modules" "package" "s3" "ssh" ];
  "flake: the package is built from what cargo reads" =
    lib.all takes [ "Cargo.toml" "Cargo.lock" "crates/hook-wire/src/lib.rs" "hook-client" "queue-daemon/src/main.rs" "benches" ]
    && !lib.any takes [ "docs/operations.md" "nixos/package.nix" "README.md" ".git/config" ];
  "flake: the package has every program, with its man pages and completions" =
    lib.all (flag: builtins.elem flag package.cargoBuildFlags) [ "--bin=eka-hook" "--bin=eka-queue" "--bin=ekaci" ]
    && builtins.replaceStrings [ "for program in eka-queue ekaci; do" ] [ "" ] package.postInstall != package.postInstall;
  "flake: modules that are imported twice count once, and take the overlay's package" =
    machine.nix.settings.post-build-hook == "/package/bin/eka-hook";
}
