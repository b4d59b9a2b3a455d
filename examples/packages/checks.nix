# The job `checks`: what is tried out with the packages, on one system.
let
  system = "x86_64-linux";
  packages = (import ./.).${system};
  check = name: package: derivation {
    inherit name system package;
    builder = "/bin/sh";
    args = [ "-c" ''read line < "$package" && echo "$line: works" > "$out"'' ];
  };
in
{
  git-clones = check "git-clones" packages.git;
  python-imports = check "python-imports" packages.python;
  site-answers = check "site-answers" packages.site;
}
