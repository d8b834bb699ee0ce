"""Try the compiled core that is installed: every algorithm signs and verifies with it, and refuses a changed token."""

from __future__ import annotations

from moq_token import Algorithm, Claims, InvalidSignatureError, Key, compiled


def main() -> None:
    assert compiled.core() is not None, "the compiled core is not installed, or has another version"
    for algorithm in Algorithm:
        key = Key.generate(algorithm)
        verifier = key if algorithm.symmetric else key.to_public()
        token = key.sign(Claims("rooms/123", "alice"))
        assert verifier.verify(token).root == "rooms/123"
        try:
            verifier.verify(f"{token[:-8]}AAAAAAAA")
        except InvalidSignatureError:
            continue
        raise AssertionError(f"{algorithm}: a changed token was accepted")
    print("the compiled core works")


if __name__ == "__main__":
    main()
