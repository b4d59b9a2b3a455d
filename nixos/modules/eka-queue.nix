# `services.eka-queue`: the daemon, its sockets and folders, and Nix' hook. In: options; `settings` is ekaci.toml. Out:
# the file, checked while the system is built, and the units that run with it. Leaves out the caches themselves.
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkOption mkIf mkDefault types;

  cfg = config.services.eka-queue;
  queue = cfg.settings.queue;
  keys = import ./queue-settings.nix { inherit lib; };
  toml = pkgs.formats.toml { };

  home = "/var/lib/eka-queue";
  # Where systemd puts what LoadCredential= names.
  credentials = "/run/credentials/eka-queue.service";
  signingKeys = lib.listToAttrs (
    lib.imap0 (n: file: lib.nameValuePair "signing-key-${toString n}" file) cfg.signingKeyFiles
  );
  loaded = cfg.credentials // signingKeys;

  # TOML has no null: a key that is not set is left out.
  withoutNulls =
    value:
    if lib.isList value then
      map withoutNulls value
    else if lib.isAttrs value && !lib.isDerivation value then
      lib.mapAttrs (_: withoutNulls) (lib.filterAttrs (_: v: v != null) value)
    else
      value;
  file = toml.generate "ekaci.toml" cfg.renderedSettings;
  checked = pkgs.runCommand "ekaci.toml" { preferLocalBuild = true; } ''
    ${cfg.package}/bin/eka-queue check-config --file-only --config-file ${file}
    cp ${file} $out
  '';

  hookConf = lib.concatStrings (
    lib.mapAttrsToList (
      name: value: "${name} = ${if lib.isBool value then lib.boolToString value else toString value}\n"
    ) (withoutNulls cfg.hook.settings)
  );

  folders = map (cache: lib.head (lib.splitString "?" (lib.removePrefix "file://" cache.destination))) (
    lib.filter (
      cache: cache.destination != null && lib.hasPrefix "file:///" cache.destination
    ) cfg.settings.caches
  );
  spoolGroup = if queue.socket_group != null then queue.socket_group else cfg.group;
  owners = lib.optionalAttrs (!cfg.dynamicUser) {
    SocketUser = cfg.user;
    SocketGroup = cfg.group;
  };
in
{
  options.services.eka-queue = {
    enable = lib.mkEnableOption "the queue that brings built store paths to binary caches";

    package = mkOption {
      type = types.package;
      default = pkgs.eka-ci or (pkgs.callPackage ../package.nix { });
      defaultText = lib.literalExpression "pkgs.eka-ci";
      description = "Package with `eka-queue` and `eka-hook`; its `ekaci` is on the `PATH` of all users too.";
    };

    user = mkOption {
      type = types.str;
      default = "eka-queue";
      description = "User that the daemon runs as. Made unless it has another name than the default.";
    };

    group = mkOption {
      type = types.str;
      default = "eka-queue";
      description = "Group that the daemon runs as. Made unless it has another name than the default.";
    };

    dynamicUser = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether systemd gives the daemon a user that exists only while it runs. The paths are then kept from the
        garbage collector through the Nix daemon, which costs a conversation with it per path, and only root's hooks
        reach the spool, which is enough where builds go through the Nix daemon.
      '';
    };

    settings = mkOption {
      default = { };
      example = lib.literalExpression ''
        {
          caches = [
            {
              id = "main";
              cache_type = "nix-copy";
              destination = "s3://example-nix-cache?region=eu-central-1";
            }
          ];
        }
      '';
      description = "The content of `ekaci.toml`; the manual's Operations page has every key.";
      type = types.submodule {
        freeformType = toml.type;
        options = {
          queue = mkOption {
            type = types.submodule {
              freeformType = toml.type;
              options = keys.queue;
            };
            default = { };
            description = "The section `[queue]`.";
          };
          caches = mkOption {
            type = types.listOf (
              types.submodule {
                freeformType = toml.type;
                options = keys.cache;
              }
            );
            default = [ ];
            description = "The blocks `[[caches]]`: where paths go.";
          };
          security = mkOption {
            type = types.submodule {
              freeformType = toml.type;
              options = keys.security;
            };
            default = { };
            description = "The section `[security]`.";
          };
        };
      };
    };

    checkConfig = mkOption {
      type = types.bool;
      default = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;
      defaultText = lib.literalExpression "pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform";
      description = "Whether building the system fails when `eka-queue check-config` refuses the settings.";
    };

    signingKeyFiles = mkOption {
      type = types.listOf types.path;
      default = [ ];
      example = [ "/run/secrets/cache-1.private" ];
      description = ''
        Secret keys as `nix-store --generate-binary-cache-key` makes them; each signs every path. systemd hands them
        to the daemon (`LoadCredential=`), so they may belong to root.
      '';
    };

    credentials = mkOption {
      type = types.attrsOf types.path;
      default = { };
      example = {
        ssh-key = "/run/secrets/cache-ssh-key";
      };
      description = ''
        Further files that systemd hands to the daemon; in the settings such a file is
        `/run/credentials/eka-queue.service/NAME`.
      '';
    };

    environmentFile = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = "/run/secrets/cache-aws";
      description = "File of `KEY=VALUE` lines for the daemon's environment, such as `AWS_ACCESS_KEY_ID`.";
    };

    hook = {
      enable = mkOption {
        type = types.bool;
        default = true;
        description = "Whether Nix calls `eka-hook` after each build (`nix.settings.post-build-hook`).";
      };
      settings = mkOption {
        type = types.submodule { options = keys.hook; };
        default = { };
        description = "The content of `/etc/eka/hook.conf`. Socket and spool are the daemon's.";
      };
    };

    renderedSettings = mkOption {
      type = types.attrs;
      internal = true;
      readOnly = true;
      description = "The settings as they stand in the file.";
    };

    configFile = mkOption {
      type = types.path;
      internal = true;
      readOnly = true;
      description = "The file that the daemon runs with.";
    };
  };

  config = mkIf cfg.enable {
    assertions =
      lib.mapAttrsToList (name: source: {
        assertion = !lib.isStorePath source;
        message = ''
          services.eka-queue: the credential ${name} is a file in the Nix store, where everybody can read it.
          Write its place as a quoted absolute path.
        '';
      }) loaded
      ++ [
        {
          assertion = !(cfg.dynamicUser && queue.socket_group != null);
          message = ''
            services.eka-queue: dynamicUser has no spool that a socket_group could reach; leave out one of them.
          '';
        }
      ];

    warnings = lib.concatLists (
      lib.mapAttrsToList (
        name: source:
        lib.optional (lib.hasPrefix "${builtins.storeDir}/" (toString source))
          "services.eka-queue: the credential ${name} lies in the Nix store, where everybody can read it."
      ) loaded
    );

    services.eka-queue = {
      renderedSettings =
        let
          settings = withoutNulls cfg.settings;
        in
        # A section without keys says nothing.
        if settings.security == { } then removeAttrs settings [ "security" ] else settings;
      configFile = if cfg.checkConfig then checked else file;
      settings.queue = {
        state_dir = mkDefault home;
        socket = mkDefault "/run/eka-queue/enqueue.sock";
        control_socket = mkDefault "/run/eka-queue/control.sock";
        # Whoever is in the group must reach it, and the state folder is closed to them.
        spool_dir = mkDefault (if queue.socket_group != null then "/var/spool/eka-queue" else "${home}/spool");
        signing_key_files = mkIf (signingKeys != { }) (
          map (name: "${credentials}/${name}") (lib.attrNames signingKeys)
        );
      };
      hook.settings = {
        socket = mkDefault queue.socket;
        spool = mkDefault queue.spool_dir;
      };
    };

    environment.systemPackages = [ cfg.package ];
    environment.etc."ekaci/ekaci.toml".source = cfg.configFile;
    environment.etc."eka/hook.conf".text = hookConf;

    nix.settings.post-build-hook = mkIf cfg.hook.enable "${cfg.package}/bin/eka-hook";
    nix.settings.trusted-users = mkIf (queue.sign_store == true) [ cfg.user ];

    users.users = mkIf (!cfg.dynamicUser && cfg.user == "eka-queue") {
      eka-queue = {
        isSystemUser = true;
        group = cfg.group;
        inherit home;
        description = "Eka queue";
      };
    };
    users.groups = mkIf (!cfg.dynamicUser && cfg.group == "eka-queue") { eka-queue = { }; };

    systemd.tmpfiles.rules = mkIf (!cfg.dynamicUser) [
      "d /nix/var/nix/gcroots/eka-queue 0755 ${cfg.user} ${cfg.group} -"
      "d ${queue.state_dir} 0750 ${cfg.user} ${cfg.group} -"
      "d ${queue.spool_dir} 3770 ${cfg.user} ${spoolGroup} -"
    ];

    systemd.sockets.eka-queue = {
      description = "Eka queue: requests of hooks";
      wantedBy = [ "sockets.target" ];
      listenStreams = [ queue.socket ];
      socketConfig = owners // {
        FileDescriptorName = "enqueue";
        ${if queue.socket_group != null then "SocketGroup" else null} = queue.socket_group;
        SocketMode = "0660";
        Service = "eka-queue.service";
      };
    };

    systemd.sockets.eka-queue-control = {
      description = "Eka queue: inspection and steering";
      wantedBy = [ "sockets.target" ];
      listenStreams = [ queue.control_socket ];
      socketConfig = owners // {
        FileDescriptorName = "control";
        SocketMode = "0600";
        Service = "eka-queue.service";
      };
    };

    systemd.services.eka-queue = {
      description = "Eka queue: brings built store paths to binary caches";
      documentation = [ "https://github.com/ekala-project/eka-ci" ];
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      requires = [ "eka-queue.socket" "eka-queue-control.socket" ];
      after = [
        "eka-queue.socket"
        "eka-queue-control.socket"
        "nix-daemon.socket"
        "network-online.target"
      ];
      # For destinations that Nix itself copies to.
      path = [ config.nix.package pkgs.openssh ];
      # The sockets hold what comes while it restarts.
      stopIfChanged = false;
      serviceConfig =
        import ./queue-hardening.nix {
          runsPrograms = lib.any (cache: cache.command != null) cfg.settings.caches;
        }
        // {
          Type = "notify";
          ExecStart = "${cfg.package}/bin/eka-queue serve --config-file ${cfg.configFile}";
          Sockets = [ "eka-queue.socket" "eka-queue-control.socket" ];
          User = cfg.user;
          Group = cfg.group;
          DynamicUser = cfg.dynamicUser;
          SupplementaryGroups = lib.optional (queue.socket_group != null) queue.socket_group;
          LoadCredential = lib.mapAttrsToList (name: source: "${name}:${toString source}") loaded;
          EnvironmentFile = lib.optional (cfg.environmentFile != null) cfg.environmentFile;
          StateDirectory = lib.optional (queue.state_dir == home) "eka-queue";
          StateDirectoryMode = "0750";
          ReadWritePaths =
            lib.optional (queue.state_dir != home) queue.state_dir
            ++ lib.optional (!lib.hasPrefix "${queue.state_dir}/" queue.spool_dir) queue.spool_dir
            ++ map (folder: "-${folder}") ([ "/nix/var/nix/gcroots/eka-queue" ] ++ folders);
          Restart = "on-failure";
          RestartSec = "2s";
          WatchdogSec = "60s";
          # Above [queue] stop_timeout.
          TimeoutStopSec = "90s";
          LimitNOFILE = 8192;
        };
    };
  };
}
