# What our modules promise, as named booleans. In: `eval`, from modules to the configuration of a system, and lib. Out:
# `checks`, which must all be true, and the settings that other tests render. The same cases run on the stand-in and on
# a real nixpkgs, so they look only at what both have.
{ eval, lib, system }:
let
  package = derivation {
    name = "eka-ci-stub";
    inherit system;
    builder = "/bin/sh";
  };
  machine = module: eval [ ../modules module ];
  queue = settings: machine { services.eka-queue = { enable = true; inherit package; } // settings; };
  old = settings: machine { services.nix-post-build-hook-queue = { enable = true; inherit package; } // settings; };

  settings = c: c.services.eka-queue.renderedSettings;
  unit = c: c.systemd.services.eka-queue.serviceConfig;
  ours = a: lib.hasPrefix "services.eka-queue" a.message || lib.hasPrefix "services.nix-post" a.message;
  # A message may be asked for only where its assertion does not hold.
  objections = c: lib.filter (a: !a.assertion && ours a) c.assertions;
  # Everything that depends on the options; the files themselves are made by others.
  whole = c: builtins.deepSeq [ (settings c) (unit c) c.environment.etc."eka/hook.conf".text ] true;
  accepted = c: (builtins.tryEval (whole c)).success && objections c == [ ];
  refused = c: !(builtins.tryEval (whole c)).success;

  cache = {
    id = "main";
    cache_type = "nix-copy";
    destination = "s3://example-nix-cache?region=eu-central-1";
  };
  with_ = extra: queue { settings.caches = [ (cache // extra) ]; };
  inQueue = queue' : queue { settings.queue = queue'; };
  defaults = {
    state_dir = "/var/lib/eka-queue";
    socket = "/run/eka-queue/enqueue.sock";
    control_socket = "/run/eka-queue/control.sock";
    spool_dir = "/var/lib/eka-queue/spool";
  };

  # Every key there is.
  full = {
    queue = {
      state_dir = "/srv/queue";
      socket = "/run/q/enqueue.sock";
      control_socket = "/run/q/control.sock";
      spool_dir = "/var/spool/q";
      socket_group = "builders";
      allowed_users = [ "root" "1000" ];
      allowed_groups = [ "builders" ];
      ci_users = [ "ci" ];
      quota_per_uid = 1000;
      signing_key_files = [ "/run/secrets/key" ];
      sign_store = true;
      default_destinations = [ "main" ];
      metrics_address = "127.0.0.1:9190";
      stop_timeout = "20s";
      keep_done = "7d";
      keep_dead = "30d";
      bandwidth_limit = "10MiB/s";
      cpu_limit = 2;
      durability = "full";
    };
    caches = [
      (
        cache
        // {
          credentials.systemd-credential.name = "cache";
          credentials_ttl = "10s";
          accept = [ "ci" ];
          permissions = {
            allow_all = false;
            allowed_repos = [ "myorg/*" ];
            allowed_branches = [ "main" "release/*" ];
          };
          allow_untrusted = false;
          allow_pull_requests = true;
          concurrency = 4;
          attempts_max = 5;
          backoff = { min = "2s"; max = "5m"; };
          breaker = { failures = 3; probe = "30s"; };
          timeout = "5m";
          presence_ttl = "1d";
          exclude = [ "*-spec.json" ];
          exclude_regex = [ "^secret-" ];
          max_nar_size = "2GiB";
          fod = "never";
          bandwidth_limit = 1048576;
          upload_logs = true;
          skip_signed_by = [ "cache.nixos.org-1" ];
        }
      )
      { id = "far"; cache_type = "nix-copy"; destination = "ssh://nix-ssh@far"; ssh_key_file = "/run/secrets/ssh"; }
      { id = "team"; cache_type = "attic"; destination = "https://attic.example.org/team"; driver = "native"; }
      { id = "ours"; cache_type = "cachix"; destination = "ours"; config_file = "/run/secrets/cachix.dhall"; }
      { id = "tell"; cache_type = "command"; command = [ "/run/current-system/sw/bin/announce" "--all" ]; }
    ];
    security.allow_private_cache_hosts = true;
  };

  minimal = queue { settings.caches = [ cache ]; };
  everything = queue { settings = full; };
  signing = queue { signingKeyFiles = [ "/run/secrets/b" "/run/secrets/a" ]; credentials.ssh = "/run/secrets/s"; };
  nobody = queue { dynamicUser = true; settings.caches = [ cache ]; };
  unhooked = queue { hook.enable = false; };
  tagged = queue { hook.settings = { tag = "builder-1"; timeout_ms = 200; strict = true; }; };
  folder = with_ { destination = "file:///srv/cache?compression=xz"; };
  programs = queue { settings.caches = [ { id = "tell"; cache_type = "command"; command = [ "/bin/tell" ]; } ]; };
  hydra = queue { hook.enable = false; settings.queue.socket_group = "hydra"; settings.caches = [ cache ]; };
  off = machine { };

  oldSsh = old {
    signingPrivateKeyPath = "/run/secrets/sign";
    sshPrivateKeyPath = "/run/secrets/ssh";
    uploadTo = "ssh://nix-ssh@nix-cache.example.com";
  };
  oldSign = old { signingPrivateKeyPath = "/run/secrets/sign"; };
  oldS3 = old { uploadTo = "s3://example"; sshPrivateKeyPath = "/run/secrets/ssh"; };
  keyInStore = "${builtins.storeDir}/00000000000000000000000000000000-key";
  given = "/run/credentials/eka-queue.service";

  # How that module's own page sets it up, with secrets that belong to the user it names.
  byItsPage =
    { config, lib, ... }:
    {
      options.sops = lib.mkOption { type = lib.types.anything; };
      config = {
        sops.secrets =
          let
            secret = name: {
              mode = "0400";
              owner = config.services.nix-post-build-hook-queue.user;
              restartUnits = [ "nix-post-build-hook-queue.service" ];
              path = "/run/secrets/${name}";
            };
          in
          {
            cache-signing-priv-key = secret "cache-signing-priv-key";
            cache-ssh-priv-key = secret "cache-ssh-priv-key";
          };
        services.nix-post-build-hook-queue = {
          enable = true;
          inherit package;
          signingPrivateKeyPath = config.sops.secrets.cache-signing-priv-key.path;
          sshPrivateKeyPath = config.sops.secrets.cache-ssh-priv-key.path;
          uploadTo = "ssh://nix-ssh@nix-cache.example.com";
        };
      };
    };
  page = machine byItsPage;

  # What pages take secrets from: options of others, as far as ours need them.
  secrets.options.sops.secrets = lib.mkOption {
    default = { };
    type = lib.types.attrsOf (
      lib.types.submodule {
        freeformType = lib.types.attrsOf lib.types.anything;
        options.path = lib.mkOption { type = lib.types.path; default = "/run/secrets/a-secret"; };
      }
    );
  };
  example =
    module:
    machine {
      imports = [ secrets module ];
      services.eka-queue.enable = lib.mkDefault true;
      services.eka-queue.package = package;
    };
in
{
  accepts = module: accepted (example module);
  rendersOf = module: settings (example module);
  rendered = {
    minimal = settings minimal;
    everything = settings everything;
    signing = settings signing;
    oldSsh = settings oldSsh;
    oldSign = settings oldSign;
    oldS3 = settings oldS3;
  };

  hookConf = tagged.environment.etc."eka/hook.conf".text;

  checks = {
    "a minimal configuration is its caches and the daemon's own places" =
      settings minimal == { queue = defaults; caches = [ cache ]; };
    "every key arrives as it was set" = settings everything == full && accepted everything;
    "the example sets every key of [queue]" =
      builtins.attrNames full.queue
      == builtins.attrNames (import ../modules/queue-settings.nix { inherit lib; }).queue;
    "the example sets every key of [[caches]]" =
      builtins.attrNames (builtins.foldl' (a: b: a // b) { } full.caches)
      == builtins.attrNames (import ../modules/queue-settings.nix { inherit lib; }).cache;
    "the example sets every key of [security]" =
      builtins.attrNames full.security
      == builtins.attrNames (import ../modules/queue-settings.nix { inherit lib; }).security;
    "what no option knows is passed on" =
      (settings (queue { settings = { web.port = 3030; queue.later = "x"; }; })).web.port == 3030
      && (settings (inQueue { later = "x"; })).queue.later == "x";

    "Nix calls the hook" = lib.hasPrefix "${package}/bin/eka-hook" minimal.nix.settings.post-build-hook;
    "unless it is told not to" = !(unhooked ? nix.settings.post-build-hook);
    "the hook finds the daemon" =
      minimal.environment.etc."eka/hook.conf".text
      == "socket = /run/eka-queue/enqueue.sock\nspool = /var/lib/eka-queue/spool\n";
    "the hook has settings of its own" =
      tagged.environment.etc."eka/hook.conf".text
      == "socket = /run/eka-queue/enqueue.sock\nspool = /var/lib/eka-queue/spool\nstrict = true\ntag = builder-1\ntimeout_ms = 200\n";
    "the programs of the package are on the PATH" =
      builtins.elem package minimal.environment.systemPackages;
    "a module that is not enabled does nothing" =
      !(off ? nix.settings.post-build-hook) && !(off ? systemd.services.eka-queue);

    "systemd holds both sockets" =
      minimal.systemd.sockets.eka-queue.listenStreams == [ defaults.socket ]
      && minimal.systemd.sockets.eka-queue.socketConfig.FileDescriptorName == "enqueue"
      && minimal.systemd.sockets.eka-queue-control.listenStreams == [ defaults.control_socket ]
      && minimal.systemd.sockets.eka-queue-control.socketConfig.SocketMode == "0600";
    "a group of users reaches socket and spool" =
      everything.systemd.sockets.eka-queue.socketConfig.SocketGroup == "builders"
      && (unit everything).SupplementaryGroups == [ "builders" ]
      && builtins.elem "d /var/spool/q 3770 eka-queue builders -" everything.systemd.tmpfiles.rules;
    "the spool of a group lies where the group can go" =
      (settings (inQueue { socket_group = "builders"; })).queue.spool_dir == "/var/spool/eka-queue";
    "Hydra's group reaches both, and its RunCommand finds them" =
      hydra.systemd.sockets.eka-queue.socketConfig.SocketGroup == "hydra"
      && builtins.elem "d /var/spool/eka-queue 3770 eka-queue hydra -" hydra.systemd.tmpfiles.rules
      && lib.hasPrefix "socket = /run/eka-queue/enqueue.sock\nspool = /var/spool/eka-queue\n" hydra.environment.etc."eka/hook.conf".text
      && !(hydra ? nix.settings.post-build-hook);
    "GC roots and spool are made before the daemon starts" =
      builtins.elem "d /nix/var/nix/gcroots/eka-queue 0755 eka-queue eka-queue -" minimal.systemd.tmpfiles.rules
      && builtins.elem "d /var/lib/eka-queue/spool 3770 eka-queue eka-queue -" minimal.systemd.tmpfiles.rules;
    "other folders are written to only where they are named" =
      (unit minimal).ReadWritePaths == [ "-/nix/var/nix/gcroots/eka-queue" ]
      && (unit folder).ReadWritePaths == [ "-/nix/var/nix/gcroots/eka-queue" "-/srv/cache" ]
      && builtins.elem "/srv/queue" (unit everything).ReadWritePaths
      && builtins.elem "/var/spool/q" (unit everything).ReadWritePaths;
    "the daemon has a user of its own" =
      (unit minimal).User == "eka-queue"
      && minimal.users.users.eka-queue.isSystemUser
      && minimal.users.users.eka-queue.group == "eka-queue";
    "or one of systemd's, with no folder that it could not own" =
      (unit nobody).DynamicUser
      && !(nobody ? users.users.eka-queue)
      && !lib.any (lib.hasPrefix "d /nix/var/nix/gcroots/eka-queue") (nobody.systemd.tmpfiles.rules or [ ])
      && !(nobody.systemd.sockets.eka-queue.socketConfig ? SocketUser)
      && accepted nobody;
    "programs may make code at run time, the daemon alone may not" =
      (unit minimal).MemoryDenyWriteExecute && !(unit programs).MemoryDenyWriteExecute;

    "keys are handed over by systemd, in their order" =
      (settings signing).queue.signing_key_files == [ "${given}/signing-key-0" "${given}/signing-key-1" ]
      && (unit signing).LoadCredential == [
        "signing-key-0:/run/secrets/b"
        "signing-key-1:/run/secrets/a"
        "ssh:/run/secrets/s"
      ];
    "a key in the store is objected to" =
      builtins.length (objections (queue { signingKeyFiles = [ keyInStore ]; })) == 1;
    "whoever signs the store is trusted by Nix, nobody else is" =
      builtins.elem "eka-queue" everything.nix.settings.trusted-users
      && !builtins.elem "eka-queue" (minimal.nix.settings.trusted-users or [ ]);
    "a group and a user of systemd's do not go together" =
      builtins.length (objections (queue { dynamicUser = true; settings.queue.socket_group = "builders"; })) == 1;

    "types: these are good" = lib.all accepted [
      (inQueue { stop_timeout = "0"; })
      (inQueue { bandwidth_limit = "80Mbit/s"; })
      (with_ { max_nar_size = 5; })
      (with_ { id = "a.b_c-1"; })
    ];
    "types: a misspelt option" =
      refused (queue { signingKeyFile = [ "/k" ]; }) && refused (machine { services.eka-queu.enable = true; });
    "types: a list that is none" =
      refused (queue { signingKeyFiles = "/k"; }) && refused (inQueue { allowed_users = "root"; });
    "types: a key that is no path" = refused (queue { signingKeyFiles = [ "key" ]; });
    "types: a relative folder" = refused (inQueue { state_dir = "state"; });
    "types: a number in quotes" = refused (inQueue { quota_per_uid = "1000"; });
    "types: a number out of bounds" = refused (with_ { concurrency = 0; }) && refused (with_ { concurrency = 257; });
    "types: a duration without a unit" =
      refused (inQueue { stop_timeout = "30"; }) && refused (inQueue { stop_timeout = 30; });
    "types: a rate that is none" = refused (inQueue { bandwidth_limit = "fast"; });
    "types: a word that is none of the known" =
      refused (with_ { fod = "sometimes"; }) && refused (inQueue { durability = "fulll"; });
    "types: a cache of no known type" = refused (with_ { cache_type = "ftp"; });
    "types: a cache without an id" = refused (queue { settings.caches = [ (removeAttrs cache [ "id" ]) ]; });
    "types: an id with a blank" = refused (with_ { id = "a b"; });
    "types: a misspelt key within a table" =
      refused (with_ { backoff.mni = "1s"; }) && refused (with_ { permissions.allowed_repo = [ "a/b" ]; });
    "types: a setting the hook does not have" = refused (queue { hook.settings.timeout = 3; });
    "types: a tag of two lines" = refused (queue { hook.settings.tag = "a\nsocket = /x"; });

    "old options: the file" =
      settings oldSsh == {
        queue = defaults // { signing_key_files = [ "${given}/signingPrivateKeyPath" ]; sign_store = true; };
        caches = [
          {
            id = "upload-to";
            cache_type = "nix-copy";
            destination = "ssh://nix-ssh@nix-cache.example.com";
            ssh_key_file = "${given}/sshPrivateKeyPath";
          }
        ];
      };
    "old options: their own page, followed" =
      accepted page
      && settings page == settings oldSsh
      && page.users.users ? ${page.sops.secrets.cache-ssh-priv-key.owner}
      && page.sops.secrets.cache-ssh-priv-key.restartUnits == page.systemd.services.eka-queue.aliases;
    "old options: the keys" =
      (unit oldSsh).LoadCredential == [
        "signingPrivateKeyPath:/run/secrets/sign"
        "sshPrivateKeyPath:/run/secrets/ssh"
      ];
    "old options: the unit's name" =
      oldSsh.systemd.services.eka-queue.aliases == [ "nix-post-build-hook-queue.service" ];
    "old options: without uploadTo the store is signed" =
      (settings oldSign).queue.sign_store && !((settings oldSign) ? caches && (settings oldSign).caches != [ ]);
    "old options: without a key nothing is signed, and an ssh key is for ssh" =
      !((settings oldS3).queue ? sign_store)
      && (settings oldS3).caches == [ { id = "upload-to"; cache_type = "nix-copy"; destination = "s3://example"; } ]
      && (unit oldS3).LoadCredential == [ ];
    "old options: the user can be asked for, and set" =
      (old { }).services.nix-post-build-hook-queue.user == "eka-queue"
      && (unit (old { user = "alice"; })).User == "alice";
    "old options: Nix calls the hook" = oldSsh.nix.settings.post-build-hook == "${package}/bin/eka-hook";
    "old options: all are good" = lib.all accepted [ oldSsh oldSign oldS3 (old { }) ];
    "old options: a key in the store is objected to" =
      objections (old { signingPrivateKeyPath = keyInStore; }) != [ ];
    "old options: a misspelt option" = refused (old { uploadto = "s3://example"; });
    "old options: a number for a path" = refused (old { signingPrivateKeyPath = 3; });
  };
}
