# What `drvs.txt` and `attrs.txt` were made of, by Nix 2.8.0:
#   nix-instantiate --store "local?root=$PWD/root" --option experimental-features ca-derivations set.nix ARGUMENTS
# with, for each name in `attrs.txt`: none (base), --argstr curl 8.2 (curl), --argstr flags -O3 (flags),
# --argstr mirror b (mirror), --arg extra true (extra), and --arg ca true beside the first three (ca, ca-curl, ca-flags).
{ curl ? "8.1", flags ? "-O2", mirror ? "a", extra ? false, ca ? false }:
let
  mk = args: derivation ({ system = "x86_64-linux"; builder = "${bash}/bin/bash"; args = [ "-e" "${builtins.toFile "builder.sh" "echo hi"}" ]; } // (if ca then { __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256"; } else { }) // args);
  bash = derivation { name = "bash-5.2"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "echo" ]; };
  fetch = name: hash: derivation { inherit name; system = "builtin"; builder = "builtin:fetchurl"; url = "https://${mirror}/${name}"; outputHashMode = "flat"; outputHashAlgo = "sha256"; outputHash = hash; preferLocalBuild = true; };
  zlibsrc = fetch "zlib-1.3.tar.gz" (builtins.hashString "sha256" "zlib");
  stage1 = mk { name = "cc-12"; stage = "1"; inherit flags; };
  stage2 = mk { name = "cc-12"; stage = "2"; cc = stage1; src = zlibsrc; };
  zlib = mk { name = "zlib-1.3"; src = zlibsrc; nativeBuildInputs = [ stage1 stage2 ]; outputs = [ "out" "dev" ]; };
  curlp = mk { name = "curl-${curl}"; version = curl; src = fetch "curl-${curl}.tar.gz" (builtins.hashString "sha256" curl); buildInputs = [ zlib.dev zlib ]; configureFlags = "--prefix=${placeholder "out"}"; };
  struct = mk { name = "struct-1"; __structuredAttrs = true; deps = [ curlp zlib ] ++ (if extra then [ bash extraDep ] else []); nested = { a = curlp; }; };
  extraDep = mk { name = "extra-1"; };
  graph = mk { name = "graph-1"; exportReferencesGraph = [ "refs" curlp.drvPath ]; };
  text = mk { name = "text-1"; v = builtins.unsafeDiscardStringContext "${curlp}/x"; c = curlp; };
in { inherit bash zlib struct graph text; curl = curlp; cc = stage2; hidden = stage1; }
