# What nix/module.nix needs of NixOS, so that the module can be evaluated without it: the units that it makes, as JSON.
{ module, given }:

let
  mapAttrsToList = make: set: map (name: make name set.${name}) (builtins.attrNames set);
  nameValuePair = name: value: { inherit name value; };
  lib = {
    inherit mapAttrsToList nameValuePair;
    concatLists = builtins.concatLists;
    getExe = package: "${package}/bin/moq-token-cli";
    getExe' = package: name: "${package}/bin/${name}";
    literalMD = text: text;
    mapAttrs' = make: set: builtins.listToAttrs (mapAttrsToList make set);
    mkEnableOption = text: { };
    mkIf = condition: value: if condition then value else { };
    mkOption = option: option;
    optionalAttrs = condition: set: if condition then set else { };
    types = {
      attrsOf = type: type;
      nullOr = type: type;
      package = null;
      path = null;
      str = null;
      submodule = make: make { name = "NAME"; };
    };
  };
  pkgs = {
    coreutils = "/coreutils";
    formats.toml = _: {
      type = null;
      generate = name: builtins.toJSON;
    };
    stdenv.hostPlatform.system = "x86_64-linux";
  };
  made = import (/. + module) { packages.x86_64-linux.default = "/package"; } {
    inherit lib pkgs;
    config.services.moq-token = {
      package = "/package";
    } // builtins.fromJSON given;
    utils.escapeSystemdExecArgs = builtins.concatStringsSep " ";
  };
in
{
  inherit (made.config.systemd) services timers tmpfiles;
  etc = made.config.environment.etc;
  # Evaluated too, so that an option that is wrong is an error.
  options = builtins.attrNames made.options.services.moq-token;
}
