# The job `packages`: for each system a set of packages, one for each file in `pkgs`.
let
  systems = [ "aarch64-linux" "x86_64-linux" ];

  names = map (file: builtins.replaceStrings [ ".nix" ] [ "" ] file) (builtins.attrNames (builtins.readDir ./pkgs));

  packagesFor = system:
    let
      # What the files of `pkgs` may ask for: each other, and what is in `lib`.
      scope = packages // {
        package = import ./lib/package.nix { inherit system; };
        licenses = import ./lib/licenses.nix;
        people = import ./lib/people.nix;
      };
      call = name:
        let function = import (./pkgs + "/${name}.nix");
        in function (builtins.intersectAttrs (builtins.functionArgs function) scope);
      packages = builtins.listToAttrs (map (name: { inherit name; value = call name; }) names);
    in
    packages;
in
builtins.listToAttrs (map
  (system: {
    name = system;
    # Without `recurseForDerivations` nobody looks into a set for more.
    value = packagesFor system // { recurseForDerivations = true; };
  })
  systems)
