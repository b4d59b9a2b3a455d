# The programs as a package. In: nixpkgs. Out: bin/eka-queue and bin/eka-hook, with man pages and completions where the
# built program can run here. Leaves out the tests: they want a Nix of their own, and run from a clone.
{
  lib,
  stdenv,
  rustPlatform,
  installShellFiles,
}:
let
  root = ../.;
  manifest = builtins.fromTOML (builtins.readFile ../Cargo.toml);
  members = map (member: lib.head (lib.splitString "/" member)) manifest.workspace.members;
in
rustPlatform.buildRustPackage {
  pname = "eka-ci";
  inherit (manifest.workspace.package) version;

  # What cargo reads, so that a change of the documents builds nothing anew.
  src = lib.cleanSourceWith {
    src = lib.cleanSource root;
    filter =
      path: _type:
      let
        top = lib.head (lib.splitString "/" (lib.removePrefix "${toString root}/" (toString path)));
      in
      builtins.elem top ([ "Cargo.toml" "Cargo.lock" ] ++ members);
  };
  cargoLock.lockFile = ../Cargo.lock;

  cargoBuildFlags = [
    "--package=eka-hook"
    "--bin=eka-hook"
    "--package=eka-queue"
    "--bin=eka-queue"
  ];
  doCheck = false;

  nativeBuildInputs = [ installShellFiles ];
  postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    mkdir -p $out/share/man/man1
    $out/bin/eka-queue man $out/share/man/man1
    for shell in bash fish zsh; do
      $out/bin/eka-queue completions $shell > eka-queue.$shell
    done
    installShellCompletion --cmd eka-queue --bash eka-queue.bash --fish eka-queue.fish --zsh eka-queue.zsh
  '';

  meta = {
    description = "A durable queue that signs what Nix builds and brings it to binary caches";
    homepage = manifest.workspace.package.repository;
    license = [ lib.licenses.mit lib.licenses.asl20 ];
    mainProgram = "eka-queue";
    platforms = lib.platforms.linux;
  };
}
