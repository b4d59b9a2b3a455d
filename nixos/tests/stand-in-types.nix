# The option types that our modules use, as nixpkgs' lib has them. In: how to settle definitions, and how to evaluate
# a submodule. Out: `types`; each has a name, a check of one value, and a merge of what several files define. Leaves
# out descriptions of types and whatever our modules do not use.
{ settle, evalSubmodule }:
let
  inherit (builtins) all attrNames concatLists elem filter head isAttrs isBool isFloat isInt isList isPath isString;
  inherit (builtins) length match;

  showAt = loc: builtins.concatStringsSep "." loc;
  one =
    loc: values:
    if all (v: v == head values) values then
      head values
    else
      throw "The option `${showAt loc}' has conflicting definition values.";
  simple = name: check: {
    inherit name check;
    merge = one;
  };
  isDerivation = v: isAttrs v && v.type or null == "derivation";
  isToml =
    v:
    isBool v
    || isInt v
    || isFloat v
    || isString v
    || isPath v
    || isDerivation v
    || (isList v && all isToml v)
    || (isAttrs v && (v ? _type || all isToml (builtins.attrValues v)));

  # What files define for every attribute, settled attribute by attribute.
  mergeAttrs =
    elemType: loc: values:
    let
      named = name: concatLists (map (v: if v ? ${name} then [ v.${name} ] else [ ]) values);
      names = attrNames (builtins.foldl' (a: b: a // b) { } values);
      settled = map (name: {
        inherit name;
        value = settle (loc ++ [ name ]) elemType (named name);
      }) names;
    in
    builtins.listToAttrs (
      map ({ name, value }: { inherit name; value = value.value; }) (filter (s: s.value.defined) settled)
    );
in
rec {
  bool = simple "boolean" isBool;
  str = simple "string" isString;
  path = simple "absolute path" (
    v: isPath v || isDerivation v || (isString v && builtins.substring 0 1 v == "/")
  );
  package = simple "package" isDerivation;
  enum = words: simple "one of ${builtins.toJSON words}" (v: elem v words);
  strMatching = regex: simple "string matching ${regex}" (v: isString v && match regex v != null);
  ints = {
    between = low: high: simple "integer between ${toString low} and ${toString high}" (v: isInt v && v >= low && v <= high);
    positive = simple "positive integer" (v: isInt v && v > 0);
    unsigned = simple "unsigned integer" (v: isInt v && v >= 0);
  };

  either = a: b: {
    name = "${a.name} or ${b.name}";
    check = v: a.check v || b.check v;
    merge =
      loc: values: if all a.check values then a.merge loc values else if all b.check values then b.merge loc values else one loc values;
  };
  nullOr = inner: {
    name = "null or ${inner.name}";
    check = v: v == null || inner.check v;
    merge =
      loc: values:
      if all (v: v == null) values then
        null
      else if elem null values then
        throw "The option `${showAt loc}' is defined both null and not null."
      else
        inner.merge loc values;
  };

  listOf = inner: {
    name = "list of ${inner.name}";
    check = isList;
    merge =
      loc: values:
      let
        settled = map (v: settle (loc ++ [ "[]" ]) inner [ v ]) (concatLists values);
      in
      map (s: s.value) (filter (s: s.defined) settled);
  };
  nonEmptyListOf = inner: listOf inner // { check = v: isList v && length v > 0; };

  attrsOf = inner: {
    name = "attribute set of ${inner.name}";
    check = v: isAttrs v && !isDerivation v;
    merge = mergeAttrs inner;
  };
  attrs = attrsOf anything;

  # Whatever the rest of a system declares: sets are merged, lists are joined, and the rest must agree.
  anything = {
    name = "anything";
    check = _: true;
    merge =
      loc: values:
      if all (v: isAttrs v && !isDerivation v) values then
        mergeAttrs anything loc values
      else if all isList values then
        concatLists values
      else
        one loc values;
  };
  toml = anything // {
    name = "TOML value";
    check = isToml;
  };

  submodule = given: {
    name = "submodule";
    check = v: isAttrs v || builtins.isFunction v;
    merge = loc: values: evalSubmodule loc given values;
  };
}
