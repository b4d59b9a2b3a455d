# Two machines: one builds, one is an S3. In: packages. Out: a test that sees what is built arrive in the bucket, signed,
# through hook and queue, and that a bucket that is away costs a build nothing and loses nothing.
{ pkgs }:
let
  login = pkgs.writeText "login" ''
    AWS_ACCESS_KEY_ID=cache-writer
    AWS_SECRET_ACCESS_KEY=cache-writer-secret
  '';
  python = pkgs.python3.withPackages (p: [ p.moto ] ++ p.moto.optional-dependencies.server);
  aws = "env $(cat ${login}) AWS_DEFAULT_REGION=us-east-1 aws --endpoint-url http://localhost:9000 s3";
in
pkgs.testers.runNixOSTest {
  name = "eka-queue-s3";

  nodes.bucket = {
    systemd.services.s3 = {
      wantedBy = [ "multi-user.target" ];
      serviceConfig.ExecStart = "${python}/bin/moto_server -H 0.0.0.0 -p 9000";
    };
    networking.firewall.allowedTCPPorts = [ 9000 ];
    environment.systemPackages = [ pkgs.awscli2 ];
  };

  nodes.builder = {
    imports = [ ../modules ];
    virtualisation.writableStore = true;
    nix.settings.substituters = pkgs.lib.mkForce [ ];
    services.eka-queue = {
      enable = true;
      environmentFile = "/etc/cache-login";
      signingKeyFiles = [ "/etc/cache.private" ];
      # The nodes are in a private network.
      settings.security.allow_private_cache_hosts = true;
      settings.caches = [
        {
          id = "bucket";
          cache_type = "nix-copy";
          destination = "s3://cache?endpoint=bucket:9000&scheme=http&region=us-east-1";
          breaker.probe = "1s";
        }
      ];
    };
    environment.etc.cache-login.source = login;
    # Made anew for each run, before anything wants it.
    system.activationScripts.cache-key = ''
      [ -e /etc/cache.private ] ||
        ${pkgs.nix}/bin/nix-store --generate-binary-cache-key cache-1 /etc/cache.private /etc/cache.public
    '';
  };

  testScript = ''
    def build(name):
        shell = 'system = builtins.currentSystem; builder = "/bin/sh";'
        expression = f'derivation {{ name = "{name}"; {shell} args = ["-c" "echo {name} > $out"]; }}'
        return builder.succeed(f"nix-build --no-out-link -E '{expression}'").strip()

    builder.wait_for_unit("eka-queue.socket")
    builder.wait_for_unit("eka-queue.service")

    with subtest("a bucket that is away holds no build"):
        early = build("early")

    bucket.wait_for_open_port(9000)
    bucket.succeed("${aws} mb s3://cache")

    with subtest("what was built arrives, signed"):
        late = build("late")
        builder.succeed("eka-queue wait --all --timeout 2m")
        for path in (early, late):
            digest = path.split("/")[3].split("-")[0]
            assert "Sig: cache-1:" in bucket.succeed(f"${aws} cp s3://cache/{digest}.narinfo -")

    with subtest("the daemon goes on after a restart"):
        builder.succeed("systemctl restart eka-queue.service")
        again = build("again")
        builder.succeed(f"eka-queue wait {again} --timeout 2m")
  '';
}
