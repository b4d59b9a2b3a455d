# What our modules need of nixpkgs, in small: enough of its lib to evaluate them, of its packages to render their
# file, and of NixOS' options to set theirs. In: modules. Out: `eval modules`, the configuration they make, with the
# messages of nixpkgs where they are wrong. Leaves out everything that our modules do not use; a real nixpkgs is
# the judge of them (`NIXPKGS=path make check-modules`).
let
  inherit (builtins) attrNames concatLists concatStringsSep elem filter head isAttrs isFunction isList map;

  # Properties of definitions.
  discharge =
    def:
    if def._type or null == "if" then
      if def.condition then discharge def.content else [ ]
    else if def._type or null == "merge" then
      concatLists (map discharge def.contents)
    else if def._type or null == "override" then
      map (d: d // { inherit (def) priority; }) (discharge def.content)
    else
      [ { priority = 100; value = def; } ];
  # The same for a set of options, without asking whether a condition holds: that may hang on the result.
  push =
    def:
    if def._type or null == "if" then
      map (builtins.mapAttrs (_: content: lib.mkIf def.condition content)) (push def.content)
    else if def._type or null == "merge" then
      concatLists (map push def.contents)
    else if def._type or null == "override" then
      map (builtins.mapAttrs (_: content: lib.mkOverride def.priority content)) (push def.content)
    else
      [ def ];

  show = concatStringsSep ".";
  # The values that win, of the right type and merged.
  settle =
    loc: type: defs:
    let
      all = concatLists (map discharge defs);
      best = builtins.foldl' (least: d: if d.priority < least then d.priority else least) 9999 all;
      values = map (d: d.value) (filter (d: d.priority == best) all);
      wrong = filter (v: !type.check v) values;
    in
    {
      defined = all != [ ];
      value =
        if wrong != [ ] then
          throw "A definition for option `${show loc}' is not of type `${type.name}'."
        else
          type.merge loc values;
    };
  settleOption =
    loc: option: defs:
    let
      own = lib.optional (option ? default) (lib.mkOverride 1500 option.default);
      settled = settle loc option.type (own ++ defs);
    in
    if option.readOnly or false && builtins.length defs > 1 then
      throw "The option `${show loc}' is read-only, but it's set multiple times."
    else if !settled.defined then
      throw "The option `${show loc}' was accessed but has no value defined."
    else
      settled.value;

  isOption = v: v._type or null == "option";
  named = name: defs: concatLists (map (d: if d ? ${name} then [ d.${name} ] else [ ]) defs);
  namesOf = defs: attrNames (builtins.foldl' (a: b: a // b) { } defs);

  # Options and definitions in, values out; `rest` is the type of what no option declares.
  tree =
    loc: rest: options: raw:
    let
      defs = concatLists (map push raw);
      unknown = filter (name: !(options ? ${name})) (namesOf defs);
      value =
        name: option:
        let
          at = loc ++ [ name ];
          here = named name defs;
        in
        if isOption option then settleOption at option here else (tree at null option here).config;
      deeper = concatLists (
        map (
          name: if isOption options.${name} then [ ] else (tree (loc ++ [ name ]) null options.${name} (named name defs)).problems
        ) (attrNames options)
      );
    in
    {
      config =
        builtins.mapAttrs value options
        // lib.optionalAttrs (rest != null) (
          rest.merge loc (map (d: removeAttrs d (attrNames options)) defs)
        );
      problems =
        deeper
        ++ (if rest != null then [ ] else map (name: "The option `${show (loc ++ [ name ])}' does not exist.") unknown);
    };

  mergeOptions =
    a: b:
    if isOption a || isOption b then
      throw "an option is declared twice"
    else
      a // builtins.mapAttrs (name: v: if a ? ${name} then mergeOptions a.${name} v else v) b;

  # A module and all that it imports; a file counts once.
  load =
    args: module:
    let
      isFile = builtins.isPath module;
      read = if isFile then import module else module;
      set = if isFunction read then read args else read;
      plain = set ? options || set ? config;
      one = {
        key = if isFile then toString module else null;
        options = set.options or { };
        config = if plain then set.config or { } else removeAttrs set [ "imports" ];
      };
    in
    [ one ] ++ concatLists (map (load args) (set.imports or [ ]));
  once =
    builtins.foldl' (
      seen: m: if m.key != null && builtins.any (s: s.key == m.key) seen then seen else seen ++ [ m ]
    ) [ ];

  evalModules =
    { modules, loc ? [ ], rest ? null, args ? { } }:
    let
      result = tree loc rest options (map (m: m.config) loaded);
      given = {
        inherit lib options;
        inherit (result) config;
      } // args;
      loaded = once (concatLists (map (load given) modules));
      options = builtins.foldl' mergeOptions { } (map (m: m.options) loaded);
    in
    if result.problems != [ ] then throw (head result.problems) else result.config;

  evalSubmodule =
    loc: given: values:
    evalModules {
      inherit loc;
      rest = given.freeformType or null;
      modules = [ { inherit (given) options; } ] ++ map (v: if isFunction v then v else { config = v; }) values;
    };

  lib = {
    types = import ./stand-in-types.nix { inherit settle evalSubmodule; };

    mkOption = args: { _type = "option"; } // args;
    mkEnableOption =
      what:
      lib.mkOption {
        type = lib.types.bool;
        default = false;
        description = "Whether to enable ${what}.";
      };
    mkIf = condition: content: { _type = "if"; inherit condition content; };
    mkMerge = contents: { _type = "merge"; inherit contents; };
    mkOverride = priority: content: { _type = "override"; inherit priority content; };
    mkDefault = lib.mkOverride 1000;
    mkForce = lib.mkOverride 50;
    literalExpression = text: { _type = "literalExpression"; inherit text; };

    inherit (builtins) all any attrNames filter head isAttrs isBool isList listToAttrs mapAttrs;
    inherit concatLists;
    boolToString = b: if b then "true" else "false";
    concatStrings = concatStringsSep "";
    filterAttrs =
      keep: set: removeAttrs set (filter (name: !keep name set.${name}) (attrNames set));
    hasPrefix = prefix: text: builtins.substring 0 (builtins.stringLength prefix) text == prefix;
    imap0 = f: list: builtins.genList (n: f n (builtins.elemAt list n)) (builtins.length list);
    isDerivation = v: v.type or null == "derivation";
    isStorePath =
      v: (builtins.isString v || builtins.isPath v || isAttrs v && v ? outPath) && dirOf (toString v) == builtins.storeDir;
    mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
    nameValuePair = name: value: { inherit name value; };
    optional = yes: value: if yes then [ value ] else [ ];
    optionalAttrs = yes: set: if yes then set else { };
    optionalString = yes: text: if yes then text else "";
    removePrefix =
      prefix: text:
      if lib.hasPrefix prefix text then
        builtins.substring (builtins.stringLength prefix) (builtins.stringLength text) text
      else
        text;
    # Of a separator that is one plain character.
    splitString = separator: text: filter builtins.isString (builtins.split "[${separator}]" text);
  };

  # TOML's strings are JSON's here; tables are written inline but for the sections and their blocks.
  inline =
    v:
    if isList v then
      "[${concatStringsSep ", " (map inline v)}]"
    else if isAttrs v then
      "{ ${concatStringsSep ", " (lib.mapAttrsToList (name: x: "${builtins.toJSON name} = ${inline x}") v)} }"
    else
      builtins.toJSON v;
  lines = v: lib.concatStrings (lib.mapAttrsToList (name: x: "${builtins.toJSON name} = ${inline x}\n") v);
  isBlocks = v: isList v && v != [ ] && builtins.all isAttrs v;
  isPlain = v: !isAttrs v && !isBlocks v;
  section =
    name: v:
    if isAttrs v then "\n[${name}]\n${lines v}" else lib.concatStrings (map (block: "\n[[${name}]]\n${lines block}") v);
  toToml =
    v:
    lines (lib.filterAttrs (_: isPlain) v)
    + lib.concatStrings (lib.mapAttrsToList section (lib.filterAttrs (_: x: !isPlain x) v));

  # Builds with the machine's own shell and tools.
  runCommand =
    name: environment: script:
    derivation (
      environment
      // {
        inherit name;
        system = builtins.currentSystem;
        builder = "/bin/sh";
        args = [ "-euc" script ];
        PATH = "/usr/bin:/bin";
      }
    );
  fake = name: {
    type = "derivation";
    inherit name;
    outPath = "${builtins.storeDir}/00000000000000000000000000000000-${name}";
  };
  pkgs = {
    inherit runCommand;
    inherit lib;
    openssh = fake "openssh";
    eka-ci = fake "eka-ci";
    stdenv.buildPlatform.canExecute = _: true;
    stdenv.hostPlatform = { };
    formats.toml = { }: {
      type = lib.types.toml;
      generate =
        name: value:
        runCommand name { text = toToml value; } ''printf %s "$text" > "$out"'';
    };
  };

  anything = lib.mkOption { type = lib.types.anything; default = { }; };
  list = lib.mkOption { type = lib.types.listOf lib.types.anything; default = [ ]; };
  # What our modules set of a system, and take from it.
  system = {
    options = {
      assertions = list;
      warnings = list;
      environment = anything;
      nix = anything;
      programs = anything;
      services.hydra = anything;
      services.cachix-watch-store = anything;
      systemd = anything;
      users = anything;
    };
    config.nix.package = fake "nix";
  };
in
{
  inherit lib pkgs toToml;
  eval = modules: evalModules { modules = [ system ] ++ modules; args = { inherit pkgs; }; };
}
