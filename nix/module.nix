# services.moq-token.keys: directories of signing keys that a timer rotates, their public halves beside them for a relay.
self:
{
  config,
  lib,
  pkgs,
  utils,
  ...
}:

let
  cfg = config.services.moq-token;
  unit = name: "moq-token-keys-${name}";
  cli = lib.getExe cfg.package;
in
{
  options.services.moq-token = {
    package = lib.mkOption {
      type = lib.types.package;
      default = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
      defaultText = lib.literalMD "the package of this flake";
      description = "The package with moq-token-cli.";
    };

    keys = lib.mkOption {
      default = { };
      description = "Directories of signing keys to rotate.";
      type = lib.types.attrsOf (
        lib.types.submodule (
          { name, ... }:
          {
            options = {
              directory = lib.mkOption {
                type = lib.types.path;
                default = "/var/lib/moq-token/${name}/signing";
                description = "Where the private keys are; only the user can read them.";
              };
              publicDirectory = lib.mkOption {
                type = lib.types.path;
                default = "/var/lib/moq-token/${name}/public";
                description = "Where relays read the public halves.";
              };
              user = lib.mkOption {
                type = lib.types.str;
                description = "Who signs tokens with these keys, and owns both directories.";
              };
              algorithm = lib.mkOption {
                type = lib.types.str;
                default = "EdDSA";
                description = "The algorithm of new keys.";
              };
              overlap = lib.mkOption {
                type = lib.types.str;
                default = "24h";
                description = "How long the key before goes on verifying: at least as long as the longest-lived token.";
              };
              startAt = lib.mkOption {
                type = lib.types.str;
                default = "weekly";
                description = "When to rotate, as a calendar event of systemd.time(7).";
              };
            };
          }
        )
      );
    };
  };

  config = lib.mkIf (cfg.keys != { }) {
    environment.systemPackages = [ cfg.package ];

    systemd.tmpfiles.rules = lib.concatLists (
      lib.mapAttrsToList (_: keys: [
        "d ${keys.directory} 0700 ${keys.user} - -"
        "d ${keys.publicDirectory} 0755 ${keys.user} - -"
      ]) cfg.keys
    );

    systemd.services = lib.mapAttrs' (
      name: keys:
      lib.nameValuePair (unit name) {
        description = "Rotate the MoQ token keys ${name}";
        inherit (keys) startAt;
        serviceConfig = {
          Type = "oneshot";
          User = keys.user;
          ExecStart = [
            (utils.escapeSystemdExecArgs [
              cli
              "keys"
              "rotate"
              "--public-dir"
              keys.publicDirectory
              "--algorithm"
              keys.algorithm
              "--overlap"
              keys.overlap
              keys.directory
            ])
            (utils.escapeSystemdExecArgs [
              cli
              "keys"
              "prune"
              keys.directory
            ])
          ];
          ReadWritePaths = [
            keys.directory
            keys.publicDirectory
          ];
          CapabilityBoundingSet = "";
          LockPersonality = true;
          NoNewPrivileges = true;
          PrivateDevices = true;
          PrivateNetwork = true;
          PrivateTmp = true;
          ProtectHome = "read-only";
          ProtectKernelModules = true;
          ProtectKernelTunables = true;
          ProtectSystem = "strict";
          RestrictAddressFamilies = "none";
          SystemCallArchitectures = "native";
        };
      }
    ) cfg.keys;

    systemd.timers = lib.mapAttrs' (
      name: _: lib.nameValuePair (unit name) { timerConfig.Persistent = true; }
    ) cfg.keys;
  };
}
