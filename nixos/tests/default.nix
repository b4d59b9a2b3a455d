# The tests of our modules that need no machine. In: a nixpkgs, or nothing for the stand-in beside this file. Out: the
# names of the promises that are not kept, how many there are, and what other tests look at: rendered files, names of
# keys, lines of units. Leaves out whether the daemon likes the files: its own tests ask it.
{
  nixpkgs ? null,
  system ? builtins.currentSystem,
  file ? null,
}:
let
  standIn = import ./stand-in.nix;
  real = import "${nixpkgs}/lib";
  lib = if nixpkgs == null then standIn.lib else real;
  eval =
    if nixpkgs == null then
      standIn.eval
    else
      modules:
      (import "${nixpkgs}/nixos/lib/eval-config.nix" {
        inherit system;
        modules = modules ++ [ { boot.isContainer = true; system.stateVersion = real.trivial.release; } ];
      }).config;
  cases = import ./cases.nix { inherit eval lib system; };
  flake = import ./flake-cases.nix { inherit standIn; };
  checks = cases.checks // (if nixpkgs == null then flake else { });
  names = builtins.attrNames checks;

  keys = import ../modules/queue-settings.nix { inherit (standIn) lib; };
  word = v: if builtins.isBool v then (if v then "yes" else "no") else toString v;
  directives =
    set: builtins.concatLists (
      standIn.lib.mapAttrsToList (name: v: map (x: "${name}=${word x}") (if builtins.isList v then v else [ v ])) set
    );
  queue = given: standIn.eval [ ../modules { services.eka-queue = { enable = true; } // given; } ];
  serviceOf = given: directives (queue given).systemd.services.eka-queue.serviceConfig;
  cache = { id = "main"; cache_type = "nix-copy"; destination = "https://cache.example.org"; };
in
{
  failed = builtins.filter (name: !checks.${name}) names;
  count = builtins.length names;

  # ekaci.toml as the modules render it, by name.
  toml = builtins.mapAttrs (_: standIn.toToml) cases.rendered;
  inherit (cases) hookConf;
  # Whether a file is a good module, and what it renders.
  example = cases.accepts file;
  exampleToml = standIn.toToml (cases.rendersOf file);
  # Names and descriptions of the keys that have an option.
  keys = builtins.mapAttrs (_: builtins.mapAttrs (_: option: option.description)) keys;
  cacheTypes = builtins.fromJSON (builtins.replaceStrings [ "one of " ] [ "" ] keys.cache.cache_type.type.name);
  # Lines of [Service]: what both units have, and whole ones.
  hardening = directives (import ../modules/queue-hardening.nix { runsPrograms = false; });
  service = serviceOf { settings.caches = [ cache ]; };
  # Lines of [Socket] and of tmpfiles.
  sockets = builtins.mapAttrs (
    _: socket: map (path: "ListenStream=${path}") socket.listenStreams ++ directives socket.socketConfig
  ) (queue { }).systemd.sockets;
  tmpfiles = (queue { }).systemd.tmpfiles.rules;
  serviceOfNobody = serviceOf { dynamicUser = true; settings.caches = [ cache ]; };
  serviceWithPrograms = serviceOf {
    settings.caches = [ { id = "tell"; cache_type = "command"; command = [ "/bin/tell" ]; } ];
  };

  # A system build's check of the file: fails when the daemon refuses the settings.
  configFile =
    { package, settings }:
    (queue {
      package = { type = "derivation"; outPath = package; };
      inherit settings;
    }).services.eka-queue.configFile;
}
