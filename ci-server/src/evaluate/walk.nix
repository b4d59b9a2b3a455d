# Walks a value as nix-build would, and tells what it meets as it meets it, one line of standard error each:
# "trace: @NONCE KIND PLACE DETAIL". A place is the way from the root in positions ("3.17"; the root is "-"), so that
# no name, however odd, has to be found again. The caller ends us where it likes and starts another at any place.
#
# Kinds: b begins (its name), s is a set or list (how many children), j is a job, m its meta, x throws, e is nothing to
# build, o is for another system, l is too large (why), z is the end. Whatever ends the evaluator in between belongs to the
# last place that has begun.
{ nonce, root, source ? null, attrPath ? [ ], lo ? [ ], force ? 1, depthMax, systems ? null, skip ? [ ], paths ? null, bare ? false
, nameBytesMax ? 4096, textBytesMax ? 4096, lineBytesMax ? 60000, listMax ? 64 }:
let
  inherit (builtins)
    all attrNames concatLists deepSeq elem elemAt filter foldl' functionArgs genList head intersectAttrs isAttrs isBool
    isFunction isInt isList isString length listToAttrs mapAttrs match replaceStrings seq stringLength substring tail
    toJSON toString toXML trace tryEval unsafeDiscardStringContext;

  say = kind: place: detail: next: trace "@${nonce} ${kind} ${place} ${detail}" next;
  done = kind: place: say kind place "" null;
  attempt = if bare then value: seq value { success = true; inherit value; } else tryEval;
  # The parts of a good job that may be bad without harm to it.
  part = value: let t = tryEval (deepSeq value value); in if t.success then t.value else null;

  # Nix calls functions whose arguments all have defaults. Only their text tells `{ ... }: x` from `x: x`.
  isCallable = f:
    let args = functionArgs f; in
    if args == { } then match ".*<attrspat.*" (replaceStrings [ "\n" ] [ " " ] (toXML f)) != null
    else all (name: args.${name}) (attrNames args);
  called = value: if isFunction value && isCallable value then value { } else value;

  string = value: if isString value then unsafeDiscardStringContext value else throw "a string is expected";
  # Cut at a blank, so that no character is torn.
  cut = text:
    if stringLength text <= textBytesMax then text
    else let parts = match "(.*) [^ ]*" (replaceStrings [ "\n" ] [ " " ] (substring 0 textBytesMax text)); in
      if parts == null then null else head parts;
  scalar = value: part (if isString value then cut (string value) else if isBool value || isInt value then value else null);
  picked = template: value:
    if isString value then scalar value else mapAttrs (_: scalar) (intersectAttrs template value);
  some = list: if length list > listMax then genList (elemAt list) listMax else list;
  listed = value: some (if isList value then value else [ value ]);
  license = { spdxId = null; shortName = null; fullName = null; free = null; };
  maintainer = { name = null; github = null; githubId = null; email = null; };
  # From the root of the source, where it is a copy in the store.
  relative = text:
    let long = "${source}/"; size = stringLength long; in
    if source != null && isString text && substring 0 size text == long then substring size (-1) text else text;
  lineOf = at: if at == null then null else relative "${toString at.file}:${toString at.line}";

  metaOf = value: let meta = value.meta or { }; in {
    t = part {
      fod = (value.outputHash or null) != null;
      features = map string (some (value.requiredSystemFeatures or [ ]));
      local = (value.preferLocalBuild or false) == true;
      nosubst = (value.allowSubstitutes or true) == false;
      ca = (value.__contentAddressed or false) == true;
    };
    m = {
      description = part (scalar (meta.description or null));
      license = part (map (one: part (picked license one)) (listed (meta.license or [ ])));
      maintainers = part (map (one: part (picked maintainer one)) (listed (meta.maintainers or [ ])));
      position = part (
        if meta ? position then scalar (relative meta.position)
        else if meta ? description then lineOf (builtins.unsafeGetAttrPos "description" meta)
        else lineOf (builtins.unsafeGetAttrPos "name" value));
      broken = part ((meta.broken or false) == true);
      insecure = part ((meta.insecure or false) == true || (meta.knownVulnerabilities or [ ]) != [ ]);
    };
  };

  job = place: value:
    let
      system = attempt (string (value.system or "unknown"));
      core = attempt (let core = {
        n = string value.name;
        s = system.value;
        d = string value.drvPath;
        o =
          if !(value ? outputs) then [ [ "out" (string value.outPath) ] ]
          else if length value.outputs > listMax then throw "it has more than ${toString listMax} outputs"
          else map (output: [ (string output) (string value.${output}.outPath) ]) value.outputs;
        p = scalar (value.pname or null);
        v = scalar (value.version or null);
      }; in deepSeq core core);
      line = toJSON core.value;
      meta = toJSON (metaOf value);
    in
    if !system.success then done "x" place
    else if systems != null && !(elem system.value systems) then done "o" place
    else if !core.success then done "x" place
    else if stringLength line > lineBytesMax then say "l" place "its attributes" null
    else say "j" place line (say "m" place (if stringLength meta > lineBytesMax then "null" else meta) null);

  visit = place: depth: path: below: forced: given:
    let
      value = called given;
      kind = attempt (
        if isAttrs value then
          if (value.type or null) == "derivation" then "job"
          else if forced > 0 || (value.recurseForDerivations or false) == true then "set"
          else "plain"
        else if isList value && forced > 0 then "list"
        else "plain");
    in
    if !kind.success then done "x" place
    else if kind.value == "job" then job place value
    else if kind.value == "plain" then done "e" place
    else if depth >= depthMax then say "l" place "its depth" null
    else if kind.value == "set" then
      children place depth path below (forced - 1) (attrNames value) (name: _: value.${name})
    else
      children place depth path below 1 (genList toString (length value)) (_: at: elemAt value at);

  children = place: depth: path: below: forced: names: valueOf:
    let
      count = length names;
      from = if below == [ ] then 0 else head below;
      prefix = if place == "-" then "" else "${place}.";
      child = at:
        let
          name = elemAt names at;
          here = "${prefix}${toString at}";
          full = path ++ [ name ];
        in
        if stringLength name > nameBytesMax then say "b" here "null" (say "l" here "its name" null)
        else say "b" here (toJSON name) (
          if skipped ? ${toJSON full} then done "e" here
          else visit here (depth + 1) full (if below != [ ] && at == from then tail below else [ ]) forced (valueOf name at));
    in
    say "s" place (toString count) (
      if from >= count then null
      else foldl' (before: at: seq before (child at)) null (genList (at: from + at) (count - from)));

  skipped = if skip == [ ] then { } else listToAttrs (map (path: { name = toJSON path; value = null; }) skip);

  # The value at a path, as nix-build's -A finds it.
  select = value: path:
    let here = called value; in
    if path == [ ] then here
    else select (if isList here then elemAt here (builtins.fromJSON (head path)) else here.${head path}) (tail path);

  # Only what lies at these paths, one child each.
  chosen =
    children "-" 0 [ ] lo 0 (map toJSON paths) (_: at: select base (elemAt paths at));

  base = select root attrPath;

in
seq (if paths == null then visit "-" 0 [ ] lo force base else say "b" "-" "null" chosen) (done "z" "-")
