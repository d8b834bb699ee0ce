{
  description = "Keys, tokens and an auth server for Media over QUIC relays";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "x86_64-darwin"
        "aarch64-darwin"
      ];
      forEachSystem = make: nixpkgs.lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
    in
    {
      packages = forEachSystem (pkgs: rec {
        moq-token-cli = pkgs.python3Packages.callPackage ./nix/package.nix { };
        default = moq-token-cli;
      });

      apps = forEachSystem (
        pkgs:
        let
          program = name: {
            type = "app";
            program = "${self.packages.${pkgs.stdenv.hostPlatform.system}.default}/bin/${name}";
            meta.description = "Keys and tokens for Media over QUIC relays";
          };
        in
        rec {
          moq-token-cli = program "moq-token-cli";
          moq-token = program "moq-token";
          default = moq-token-cli;
        }
      );

      # Only what `make` starts from: it installs everything else itself, from the locked versions.
      devShells = forEachSystem (pkgs: {
        default = pkgs.mkShell {
          packages = [
            pkgs.gnumake
            pkgs.nodejs
            pkgs.python3
          ];
        };
      });

      nixosModules.default = import ./nix/module.nix self;
    };
}
