# Walks a value as nix-build would, and tells what it meets as it meets it, in marks: lines of standard error,
# "@NONCE KIND PLACE DETAIL". A place is the way from the root in positions ("3.17"; the root is "-"), so that no name,
# however odd, has to be found again. The caller ends us where it likes and starts another at any place.
#
# The first of all is that the root begins: before it, nothing of the value was looked at.
# Kinds: b begins (its name), u begins (its name is too long), s is a set or list (how many children), j is a job, m its
# meta, x throws, e is nothing to build, o is for another system, l is too large (why), z is the end. Whatever ends the
# evaluator in between belongs to the last place that has begun, or to the meta of the job that was told last.
#
# Each message is a system call, and may wake the caller up. So the mark that ends a place is handed on, and
# told together with the one that comes next: a message of two lines, the second without Nix's "trace: ". Nothing may
# be evaluated in between that can end the evaluator, or it would be blamed on the place before.
{ nonce, root, source ? null, attrPath ? [ ], lo ? [ ], force ? 1, depthMax, systems ? null, skip ? [ ], paths ? null, bare ? false
, nameBytesMax ? 4096, textBytesMax ? 4096, lineBytesMax ? 60000, listMax ? 64 }:
let
  inherit (builtins)
    all attrNames deepSeq dirOf elem elemAt foldl' fromJSON functionArgs genList head intersectAttrs isAttrs isBool
    isFunction isInt isList isString length listToAttrs mapAttrs match replaceStrings seq storeDir stringLength substring tail
    toJSON toString toXML trace tryEval unsafeDiscardStringContext unsafeGetAttrPos;

  tell = marks: next: trace "@${nonce} ${marks}" next;
  attempt = if bare then value: seq value { success = true; inherit value; } else tryEval;

  # Nix calls functions whose arguments all have defaults. Only their text tells `{ ... }: x` from `x: x`.
  isCallable = f:
    let args = functionArgs f; in
    if args == { } then match ".*<attrspat.*" (replaceStrings [ "\n" ] [ " " ] (toXML f)) != null
    else all (name: args.${name}) (attrNames args);
  called = value: if isFunction value && isCallable value then value { } else value;

  string = value: if isString value then value else throw "a string is expected";
  # Cut at a blank, so that no character is torn.
  cut = text:
    let parts = match "(.*) [^ ]*" (replaceStrings [ "\n" ] [ " " ] (substring 0 textBytesMax text)); in
    if parts == null then null else head parts;
  plain = value:
    if isString value then if stringLength value <= textBytesMax then value else cut value
    else if isBool value || isInt value then value
    else null;
  some = list: if length list > listMax then genList (elemAt list) listMax else list;
  license = { spdxId = null; shortName = null; fullName = null; free = null; };
  maintainer = { name = null; github = null; githubId = null; email = null; };
  # From the root of the source, where it is a copy in the store.
  relative =
    let long = "${source}/"; size = stringLength long; in
    if source == null then text: text
    else text: if isString text && substring 0 size text == long then substring size (-1) text else text;
  lineOf = at: if at == null then null else relative "${toString at.file}:${toString at.line}";

  # The parts of a good job that may be bad without harm to it.
  part = value: let t = tryEval (deepSeq value value); in if t.success then t.value else null;

  # What is said of a good job, `around` each part of it that may be bad.
  metaOf = around: value:
    let
      meta = value.meta or { };
      scalar = value: around (plain value);
      picked = template: value:
        if isString value then plain value
        else if isAttrs value then mapAttrs (_: scalar) (intersectAttrs template value)
        else null;
      listed = template: value:
        around (map (one: around (picked template one)) (some (if isList value then value else [ value ])));
    in {
      # A list, for names would cost both sides time: is fixed-output, features, prefers local, forbids substitutes, is
      # content-addressed.
      t = around [
        ((value.outputHash or null) != null)
        (map string (some (value.requiredSystemFeatures or [ ])))
        ((value.preferLocalBuild or false) == true)
        ((value.allowSubstitutes or true) == false)
        ((value.__contentAddressed or false) == true)
      ];
      m = {
        description = scalar (meta.description or null);
        license = listed license (meta.license or [ ]);
        maintainers = listed maintainer (meta.maintainers or [ ]);
        position = around (
          if meta ? position then plain (relative meta.position)
          else if meta ? description then lineOf (unsafeGetAttrPos "description" meta)
          else lineOf (unsafeGetAttrPos "name" value));
        broken = around ((meta.broken or false) == true);
        insecure = around ((meta.insecure or false) == true || (meta.knownVulnerabilities or [ ]) != [ ]);
      };
    };
  # Nearly all are good as a whole, and then no part of them has to be tried by itself.
  metaText = value:
    let
      whole = tryEval (toJSON (metaOf (good: good) value));
      text = if whole.success then whole.value else toJSON (metaOf part value);
    in if stringLength text > lineBytesMax then "null" else text;

  # A value that says of itself that it is a derivation may name any file, under a name that a derivation will have.
  # With the words behind it, it is no path to whoever reads it.
  inStore = drv: if dirOf drv == storeDir then drv else "${drv} (which is not in ${storeDir})";

  # A job as JSON: name, system, drvPath, outputs, pname, version. What it is where it is not for us.
  jobText = value:
    let system = string (value.system or "unknown"); in
    if systems != null && !(elem system systems) then "other"
    else unsafeDiscardStringContext (toJSON [
      (string value.name)
      system
      (inStore (string value.drvPath))
      (if !(value ? outputs) then [ [ "out" (string value.outPath) ] ]
        else if length value.outputs > listMax then throw "it has more than ${toString listMax} outputs"
        else map (output: [ (string output) (string value.${output}.outPath) ]) value.outputs)
      (part (plain (value.pname or null)))
      (part (plain (value.version or null)))
    ]);

  # Looks at a place. What comes out is the mark that ends it, which nobody has told yet.
  visit = place: depth: path: below: forced: given:
    let
      value = called given;
      tried = attempt (
        if isAttrs value then
          if (value.type or null) == "derivation" then jobText value
          else if forced > 0 || (value.recurseForDerivations or false) == true then "set"
          else "plain"
        else if isList value && forced > 0 then "list"
        else "plain");
      found = tried.value;
    in
    if !tried.success then "x ${place} "
    else if found == "plain" then "e ${place} "
    else if found == "other" then "o ${place} "
    else if found != "set" && found != "list" then
      if stringLength found > lineBytesMax then "l ${place} its attributes"
      else tell "j ${place} ${found}" "m ${place} ${metaText value}"
    else if depth >= depthMax then "l ${place} its depth"
    else if found == "set" then
      children place depth path below (forced - 1) (attrNames value) (name: _: value.${name})
    else
      children place depth path below 1 (genList toString (length value)) (_: at: elemAt value at);

  # As JSON escapes text, but of control characters only those that Nix does not print. Unlike toJSON it takes any bytes.
  escaped = replaceStrings
    [ "\\" "\"" "\n" "\r" "\t" (fromJSON ''"\u0007"'') (fromJSON ''"\u001b"'') ]
    [ "\\\\" "\\\"" "\\n" "\\r" "\\t" "\\u0007" "\\u001b" ];

  children = place: depth: path: below: forced: names: valueOf:
    let
      count = length names;
      from = if below == [ ] then 0 else head below;
      prefix = if place == "-" then "" else "${place}.";
      step = before: at:
        let
          name = elemAt names at;
          here = "${prefix}${toString at}";
          full = path ++ [ name ];
        in
        if stringLength name > nameBytesMax then tell "${before}\n@${nonce} u ${here} " "l ${here} its name"
        else tell "${before}\n@${nonce} b ${here} \"${escaped name}\"" (
          if skip != [ ] && skipped ? ${toJSON full} then "e ${here} "
          else visit here (depth + 1) full (if below != [ ] && at == from then tail below else [ ]) forced (valueOf name at));
      known = "s ${place} ${toString count}";
    in
    if from >= count then known else foldl' step known (genList (at: from + at) (count - from));

  skipped = listToAttrs (map (path: { name = toJSON path; value = null; }) skip);

  # The value at a path, as nix-build's -A finds it.
  select = value: path:
    let here = called value; in
    if path == [ ] then here
    else select (if isList here then elemAt here (fromJSON (head path)) else here.${head path}) (tail path);

  # Only what lies at these paths, one child each.
  chosen =
    children "-" 0 [ ] lo 0 (map toJSON paths) (_: at: select base (elemAt paths at));

  base = select root attrPath;
  last = tell "u - " (if paths == null then visit "-" 0 [ ] lo force base else chosen);

in
tell "${last}\n@${nonce} z - " null
