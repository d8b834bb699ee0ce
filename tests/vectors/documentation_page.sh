# The command lines of the documentation page of moq-token (https://doc.moq.dev, "moq-token"), as published on 2026-11-25: every
# shell line of the page, in its order. tests/unit/test_documentation_page.py runs those that call the program.
cargo install moq-token-cli
nix run github:moq-dev/moq#moq-token-cli
nix build github:moq-dev/moq#moq-token-cli
docker pull moqdev/moq-token-cli
docker run -v "$(pwd):/app" -w /app moqdev/moq-token-cli --key root.jwk generate
moq-token-cli generate --out root.jwk --algorithm HS256
moq-token-cli generate --algorithm RS256 --out private.jwk --public public.jwk
moq-token-cli generate --algorithm EdDSA --out private.jwk --public public.jwk
moq-token-cli sign --key root.jwk \
  --root "rooms/123" \
  --publish "alice" \
  --subscribe "" \
  --expires 1735689600 > alice.jwt
moq-token-cli verify --key root.jwk < alice.jwt
