# The programs as a package. In: nixpkgs. Out: bin/eka-queue, bin/eka-hook and bin/ekaci, with man pages and completions
# where what is built can run here. Leaves out the tests, which want a Nix of their own and run from a clone, and what
# `ekaci` takes from the PATH: git and Nix.
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
    "--package=ekaci"
    "--bin=ekaci"
  ];
  doCheck = false;

  nativeBuildInputs = [ installShellFiles ];
  postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    mkdir -p $out/share/man/man1
    for program in eka-queue ekaci; do
      $out/bin/$program man $out/share/man/man1
      for shell in bash fish zsh; do
        $out/bin/$program completions $shell > $program.$shell
      done
      installShellCompletion --cmd $program --bash $program.bash --fish $program.fish --zsh $program.zsh
    done
  '';

  meta = {
    description = "A durable queue that signs what Nix builds and brings it to binary caches, and what a change of packages touches";
    homepage = manifest.workspace.package.repository;
    license = [ lib.licenses.mit lib.licenses.asl20 ];
    mainProgram = "eka-queue";
    platforms = lib.platforms.linux;
  };
}
