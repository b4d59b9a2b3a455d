# `services.nix-post-build-hook-queue`: the options of the module of that name, served by `services.eka-queue`. In: its
# options as they were. Out: settings of the queue, and its unit under the old name as well. Everything else is said
# in `services.eka-queue`, which both modules share.
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkOption mkIf mkDefault types;

  cfg = config.services.nix-post-build-hook-queue;
  credentials = "/run/credentials/eka-queue.service";
  signs = cfg.signingPrivateKeyPath != null;
  uploads = cfg.uploadTo != null;
  bySsh = uploads && (lib.hasPrefix "ssh://" cfg.uploadTo || lib.hasPrefix "ssh-ng://" cfg.uploadTo);
  withSshKey = bySsh && cfg.sshPrivateKeyPath != null;
in
{
  imports = [ ./eka-queue.nix ];

  options.services.nix-post-build-hook-queue = {
    enable = lib.mkEnableOption "nix-post-build-hook-queue";

    package = mkOption {
      type = types.package;
      default = pkgs.eka-ci or (pkgs.callPackage ../package.nix { });
      defaultText = lib.literalExpression "pkgs.eka-ci";
      description = "Package with `eka-queue` and `eka-hook`.";
    };

    user = mkOption {
      type = types.str;
      default = "eka-queue";
      description = "User that the daemon runs as. The key files may belong to it, or to root.";
    };

    signingPrivateKeyPath = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = "/run/secrets/nix-store-signing-priv-key";
      description = ''
        Path of the private key to sign store paths with, as `nix-store --generate-binary-cache-key` makes it. They are
        signed in the local store, and carry the signature to where they are uploaded.

        Paths will not be signed if null.
      '';
    };

    uploadTo = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "ssh://nix-ssh@nix-cache.example.com";
      description = ''
        Binary cache to upload store paths to after building.

        Paths will not be uploaded if null.
      '';
    };

    sshPrivateKeyPath = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = "/run/secrets/ssh-priv-key";
      description = ''
        Path to a private SSH key file.

        This is only relevant if `services.nix-post-build-hook-queue.uploadTo` is set to an SSH URL.
      '';
    };
  };

  config = mkIf cfg.enable {
    assertions =
      map
        (name: {
          assertion = !lib.isStorePath cfg.${name};
          message = ''
            services.nix-post-build-hook-queue.${name}
            points to a file in the Nix store.
            You should use a quoted absolute path to prevent this.
          '';
        })
        [ "signingPrivateKeyPath" "sshPrivateKeyPath" ];

    services.eka-queue = {
      enable = true;
      package = mkDefault cfg.package;
      user = mkDefault cfg.user;
      credentials =
        lib.optionalAttrs signs { inherit (cfg) signingPrivateKeyPath; }
        // lib.optionalAttrs withSshKey { inherit (cfg) sshPrivateKeyPath; };
      settings.queue = mkIf signs {
        signing_key_files = [ "${credentials}/signingPrivateKeyPath" ];
        sign_store = mkDefault true;
      };
      settings.caches = mkIf uploads [
        {
          id = "upload-to";
          cache_type = "nix-copy";
          destination = cfg.uploadTo;
          ssh_key_file = mkIf withSshKey "${credentials}/sshPrivateKeyPath";
        }
      ];
    };

    systemd.services.eka-queue = {
      aliases = [ "nix-post-build-hook-queue.service" ];
      environment = mkIf bySsh { NIX_SSHOPTS = mkDefault "-o IPQoS=throughput"; };
    };
  };
}
