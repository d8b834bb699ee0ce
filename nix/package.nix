{
  lib,
  buildPythonApplication,
  click,
  cryptography,
  hatchling,
  httptools,
  msgspec,
  prometheus-client,
  uvloop,
}:

let
  # The one place where the version stands.
  version = builtins.head (
    builtins.concatLists (
      builtins.filter builtins.isList (
        builtins.split "__version__ = \"([0-9.]+)\"" (builtins.readFile ../src/moq_token/__init__.py)
      )
    )
  );
in
buildPythonApplication {
  pname = "moq-token-cli";
  inherit version;
  pyproject = true;

  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../LICENSE-APACHE
      ../LICENSE-MIT
      ../README.md
      ../pyproject.toml
      ../share
      ../src
    ];
  };

  build-system = [ hatchling ];

  dependencies = [
    click
    cryptography
    httptools
    msgspec
    prometheus-client
    uvloop
  ];

  pythonImportsCheck = [ "moq_token" ];

  meta = {
    description = "Keys, tokens and an auth server for Media over QUIC relays";
    license = with lib.licenses; [
      asl20
      mit
    ];
    mainProgram = "moq-token-cli";
  };
}
