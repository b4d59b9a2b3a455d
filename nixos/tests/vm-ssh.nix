# Two machines: one builds, one takes paths by ssh, configured with the options of services.nix-post-build-hook-queue.
# In: packages. Out: a test that sees what is built arrive, and the unit answer to its old name.
{ pkgs }:
pkgs.testers.runNixOSTest {
  name = "nix-post-build-hook-queue";

  nodes.cache =
    { nodes, ... }:
    {
      services.openssh.enable = true;
      nix.sshServe = {
        enable = true;
        write = true;
      };
      # Takes paths without a signature it knows.
      nix.settings.trusted-users = [ "nix-ssh" ];
    };

  nodes.builder = {
    imports = [ ../modules ];
    virtualisation.writableStore = true;
    nix.settings.substituters = pkgs.lib.mkForce [ ];
    services.nix-post-build-hook-queue = {
      enable = true;
      sshPrivateKeyPath = "/etc/ssh-key";
      uploadTo = "ssh://nix-ssh@cache";
    };
    system.activationScripts.ssh-key = ''
      [ -e /etc/ssh-key ] || ${pkgs.openssh}/bin/ssh-keygen -q -t ed25519 -N "" -f /etc/ssh-key
    '';
  };

  testScript = ''
    start_all()
    cache.wait_for_unit("sshd.service")
    key = builder.succeed("cat /etc/ssh-key.pub").strip()
    cache.succeed(f"mkdir -p /etc/ssh/authorized_keys.d && echo '{key}' > /etc/ssh/authorized_keys.d/nix-ssh")
    builder.succeed(
        "install -d -o eka-queue /var/lib/eka-queue/.ssh",
        "ssh-keyscan cache > /var/lib/eka-queue/.ssh/known_hosts",
    )
    builder.wait_for_unit("nix-post-build-hook-queue.service")
    shell = 'system = builtins.currentSystem; builder = "/bin/sh";'
    expression = f'derivation {{ name = "a"; {shell} args = ["-c" "echo a > $out"]; }}'
    path = builder.succeed(f"nix-build --no-out-link -E '{expression}'").strip()
    builder.succeed(f"eka-queue wait {path} --timeout 2m")
    cache.succeed(f"nix-store --verify-path {path}")
  '';
}
