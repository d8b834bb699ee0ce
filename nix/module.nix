# services.moq-token.keys: directories of signing keys that a timer rotates, their public halves beside them for a relay.
# services.moq-token.serve: the auth server that relays ask.
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
  toml = pkgs.formats.toml { };
  serveFile = toml.generate "serve.toml" { serve = cfg.serve.settings; };
in
{
  options.services.moq-token = {
    package = lib.mkOption {
      type = lib.types.package;
      default = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
      defaultText = lib.literalMD "the package of this flake";
      description = "The package with moq-token-cli.";
    };

    serve = {
      enable = lib.mkEnableOption "the auth server that relays ask";
      settings = lib.mkOption {
        type = toml.type;
        default = { };
        example = {
          key_dir = "/var/lib/moq-token/main/public";
          public_subscribe = [ "lobby/**" ];
          expires = "1h";
          revalidate = "1m";
        };
        description = "The table [serve], with the flags of `moq-token-cli serve` as names. The store is world-readable: write secrets to files, and name those.";
      };
      user = lib.mkOption {
        type = lib.types.nullOr lib.types.str;
        default = null;
        description = "Who runs it and can read the keys; null makes a user for it. A relay that asks over a unix socket needs the same user.";
      };
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

  config = lib.mkIf (cfg.keys != { } || cfg.serve.enable) {
    environment.systemPackages = [ cfg.package ];

    environment.etc = lib.mkIf cfg.serve.enable { "moq-token/serve.toml".source = serveFile; };

    systemd.tmpfiles.rules = lib.concatLists (
      lib.mapAttrsToList (_: keys: [
        "d ${keys.directory} 0700 ${keys.user} - -"
        "d ${keys.publicDirectory} 0755 ${keys.user} - -"
      ]) cfg.keys
    );

    systemd.services = lib.optionalAttrs cfg.serve.enable {
      moq-token-serve = {
        description = "Auth server for Media over QUIC relays";
        wantedBy = [ "multi-user.target" ];
        before = [ "moq-relay.service" ];
        reloadTriggers = [ serveFile ];
        serviceConfig = {
          Type = "exec";
          ExecStart = utils.escapeSystemdExecArgs [
            cli
            "serve"
            "--config"
            "/etc/moq-token/serve.toml"
          ];
          ExecReload = "${lib.getExe' pkgs.coreutils "kill"} -HUP $MAINPID";
          Restart = "always";
          RestartSec = 1;
          TimeoutStopSec = 10;
          DynamicUser = cfg.serve.user == null;
          User = if cfg.serve.user == null then "moq-token" else cfg.serve.user;
          RuntimeDirectory = "moq-token";
          StateDirectory = "moq-token-serve";
          StateDirectoryMode = "0700";
          Environment = "MOQ_TOKEN_SERVE_STATE=%S/moq-token-serve";
          LimitNOFILE = 65536;
          MemoryMax = "512M";
          UMask = "0077";
          CapabilityBoundingSet = "";
          LockPersonality = true;
          MemoryDenyWriteExecute = true;
          NoNewPrivileges = true;
          PrivateDevices = true;
          PrivateTmp = true;
          PrivateUsers = true;
          ProcSubset = "pid";
          ProtectClock = true;
          ProtectControlGroups = true;
          ProtectHome = true;
          ProtectHostname = true;
          ProtectKernelLogs = true;
          ProtectKernelModules = true;
          ProtectKernelTunables = true;
          ProtectProc = "invisible";
          ProtectSystem = "strict";
          RemoveIPC = true;
          RestrictAddressFamilies = [
            "AF_INET"
            "AF_INET6"
            "AF_UNIX"
          ];
          RestrictNamespaces = true;
          RestrictRealtime = true;
          RestrictSUIDSGID = true;
          SystemCallArchitectures = "native";
          SystemCallFilter = [
            "@system-service"
            "~@privileged"
          ];
        };
      };
    } // lib.mapAttrs' (
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
