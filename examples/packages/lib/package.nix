# A package: what it is made of comes in, a derivation with its `meta` comes out.
#
# Everything is made up, and small enough to be built in a moment: a "download" holds its own name, and a package says what
# it was made of. What depends on what, though, is as in a real set of packages.
{ system }:
let
  # A fixed-output derivation: however it does it, its output has this hash.
  download = name: sha256: derivation {
    inherit name system;
    builder = "/bin/sh";
    args = [ "-c" ''echo "$name" > "$out"'' ];
    outputHashMode = "flat";
    outputHashAlgo = "sha256";
    outputHash = sha256;
  };
in
{
  pname,
  version,
  # The hash of its download; or else `src`, a file that lies here.
  sha256 ? null,
  src ? download "${pname}-${version}.tar.gz" sha256,
  # Packages it needs.
  inputs ? [ ],
  meta ? { },
}:
derivation
  {
    name = "${pname}-${version}";
    inherit pname version system src inputs;
    builder = "/bin/sh";
    args = [ ./builder.sh ];
  } // { inherit meta; }
