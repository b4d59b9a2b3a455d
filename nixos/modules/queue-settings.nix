# The keys of ekaci.toml that the queue reads, as typed options. In: nixpkgs' lib. Out: one set of options for
# [queue], one for a [[caches]] block, one for [security], and one for hook.conf. `null` leaves a key out, and the daemon's own default
# holds. Leaves out what the daemon refuses and what other programs read: the freeform rest takes those.
{ lib }:
let
  inherit (lib) mkOption types;

  duration = types.strMatching "0|[0-9]+(ms|s|m|min|h|d|w)";
  size = types.either types.ints.unsigned (types.strMatching "[0-9]+(B|[kKMGT]|[KMGT]iB|[kMGT]B)?");
  rate = types.either types.ints.positive (
    types.strMatching "[0-9]+(B|[kKMGT]|[KMGT]iB|[kMGT]B|[kMG]?bit)?(/s)?"
  );
  # Of the machine it runs on: a string, so that nothing is copied into the store.
  absolute = types.strMatching "/.*";
  id = types.strMatching "[A-Za-z0-9._-]{1,128}";
  # Over repositories and branches.
  pattern = types.strMatching ".{1,256}";

  # A key that may be left out.
  key =
    type: default: description:
    mkOption {
      type = types.nullOr type;
      default = null;
      description = description + lib.optionalString (default != "") "\n\nDefault: ${default}.";
    };
  required =
    type: description:
    mkOption { inherit type description; };
  table =
    options: default: description:
    key (types.submodule { inherit options; }) default description;
in
{
  queue = {
    state_dir = key absolute "`/var/lib/eka-queue`" "Folder of the database, the lock and scratch files.";
    socket = key absolute "`/run/eka-queue/enqueue.sock`" "Socket that takes requests of hooks and of the CI.";
    control_socket =
      key absolute "`/run/eka-queue/control.sock`"
        "Socket that takes inspection and steering, and serves metrics.";
    spool_dir =
      key absolute "`/var/lib/eka-queue/spool`"
        "Folder where `eka-hook` leaves what it could not hand over.";
    socket_group = key types.str "the daemon's group" "Group of the enqueue socket and of the spool.";
    allowed_users =
      key (types.listOf types.str) "whoever may open the socket"
        "Users who may enqueue, by name or number.";
    allowed_groups =
      key (types.listOf types.str) "whoever may open the socket"
        "Groups whose members may enqueue, by name or number.";
    ci_users =
      key (types.listOf types.str) "none"
        "Users who may speak for a CI, besides root and the daemon's own.";
    quota_per_uid =
      key types.ints.positive "100000"
        "Live deliveries one user may have before its requests are put off.";
    signing_key_files =
      key (types.listOf absolute) "none"
        ''
          Files of secret keys (`name:base64`) that the daemon's user can read; each signs what is sent.
          `services.eka-queue.signingKeyFiles` adds to them, and needs no rights on the files.
        '';
    sign_store =
      key types.bool "false"
        ''
          Whether the signatures are added to the local store as well. Nix allows that to its trusted users only, so the
          daemon's user becomes one.
        '';
    default_destinations =
      key (types.listOf id) "all"
        "Ids of the destinations of a request that names none.";
    metrics_address =
      key types.str "none"
        "`address:port` where Prometheus may ask, besides the control socket.";
    stop_timeout =
      key duration "`30s`"
        ''
          How long a stopping daemon waits for attempts under way. Above a minute the unit's `TimeoutStopSec` (90 s) has
          to grow with it.
        '';
    keep_done = key duration "`14d`" "How long finished deliveries are remembered.";
    keep_dead = key duration "`90d`" "How long dead letters are remembered.";
    bandwidth_limit =
      key rate "none"
        "Bytes a second to all binary caches together, such as `10MiB/s` or `80Mbit/s`.";
    cpu_limit = key (types.ints.between 1 1024) "all" "Threads that may compress at once.";
    durability =
      key (types.enum [ "full" "normal" "off" ]) "`full`"
        "What an acknowledgement survives. Below `full`, a power cut may lose acknowledged paths: for measurements.";
  };

  cache = {
    id = required id "Name of the destination.";
    cache_type =
      required (types.enum [ "nix-copy" "attic" "cachix" "command" ])
        "How paths get there: to a store URL, a cache of Attic or Cachix, or by a program.";
    destination =
      key types.str "required for all but `command`"
        ''
          Store URL: `s3://…`, `https://…`, `file://…`, or another that Nix can copy to, such as `ssh-ng://…`. For
          `attic` `https://HOST/CACHE` or `SERVER:CACHE`, for `cachix` the name of the cache.
        '';
    driver =
      key (types.enum [ "native" "cli" ]) "`native`"
        "For `attic` and `cachix`: `cli` runs their own program, which has to be in the `path` of the service.";
    config_file = key absolute "`~/.config/cachix/cachix.dhall`" "For `cachix`: where its settings are.";
    command =
      key (types.nonEmptyListOf types.str) "required for `command`"
        "Program and arguments, without a shell; run once per batch with `OUT_PATHS` and `DRV_PATH`.";
    ssh_key_file =
      key absolute "none"
        "Private key for `ssh://` and `ssh-ng://`, readable by the daemon's user; see `services.eka-queue.credentials`.";
    credentials =
      key (types.either (types.enum [ "none" "instance-metadata" ]) types.attrs) "none"
        ''
          As whom the destination is spoken to: a source, such as `{ systemd-credential.name = "NAME"; }` for a file of
          `services.eka-queue.credentials`. No secret itself: this file is in the Nix store.
        '';
    credentials_ttl = key duration "`30s`" "How long what a source gave is used before it is asked again.";
    accept =
      key (types.listOf (types.enum [ "hook" "ci" ])) "both; `[ \"ci\" ]` beside `permissions` that restrict"
        "Whose requests it takes.";
    permissions =
      table {
        allow_all =
          key types.bool "`true` without lists, `false` beside one"
            "Whether every repository and branch is let in. True beside lists, the lists mean nothing.";
        allowed_repos =
          key (types.listOf pattern) "none"
            "Patterns on `owner/name`, such as `myorg/*`, in any case. Empty lists ask for nothing.";
        allowed_branches =
          key (types.listOf pattern) "none"
            "Patterns on branches, such as `main` and `release/*`. None matches a pull request.";
      } "everything" "Of which repositories and branches a CI may push builds here.";
    allow_untrusted =
      key types.bool "`false`"
        "Whether a CI may push what untrusted pull requests built, too. For a cache that nobody trusts, and no key.";
    allow_pull_requests =
      key types.bool "`false`"
        "Whether approved pull requests are let in where `allowed_branches` has entries.";
    concurrency = key (types.ints.between 1 256) "8" "Batches under way at once.";
    attempts_max =
      key (types.ints.between 1 1000000) "25"
        "Counted failures until a delivery is given up.";
    backoff =
      table {
        min = key duration "`1s`" "The shortest wait.";
        max = key duration "`15m`" "The longest wait.";
      } "" "How long to wait between two attempts.";
    breaker =
      table {
        failures = key (types.ints.between 1 1000000) "5" "Failures in a row that put the destination in doubt.";
        probe = key duration "`1m`" "Time between two probes then.";
      } "" "When the destination is in doubt, and how often it is tried then.";
    timeout = key duration "`10m`" "How long an attempt may go on without progress.";
    presence_ttl =
      key duration "`7d`"
        "How long a receipt stands before a new request for the same path is sent again.";
    exclude =
      key (types.listOf types.str) "none"
        "Globs on the name behind the hash, such as `*-spec.json`; what matches is not queued here.";
    exclude_regex =
      key (types.listOf types.str) "none"
        "Regular expressions on the same name, not anchored.";
    max_nar_size = key size "none" "Larger paths are not queued here, such as `2GiB`.";
    fod =
      key (types.enum [ "both" "only" "never" ]) "`both`"
        "Whether outputs of fixed-output derivations are queued here, or nothing else.";
    bandwidth_limit = key rate "none" "Bytes a second; binary caches alone.";
    upload_logs = key types.bool "false" "Whether the log of the build is sent too; binary caches alone.";
    skip_signed_by =
      key (types.listOf types.str) "none"
        "Names of keys, or whole public keys: a path that one of them has signed is upstream already.";
  };

  security = {
    allow_private_cache_hosts =
      key types.bool "false"
        "Whether caches may be in private networks and on this machine, as a MinIO in the next room is.";
  };

  hook = {
    socket = required absolute "Socket that the hook writes to.";
    spool = required absolute "Folder where the hook leaves what it could not hand over.";
    timeout_ms = key (types.ints.between 1 60000) "150" "Milliseconds to wait for the answer.";
    tag = key (types.strMatching "[^\n]+") "none" "Tag of everything that is queued.";
    strict = key types.bool "false" "Whether the hook's exit code tells. Nix stops a build whose hook fails.";
  };
}
