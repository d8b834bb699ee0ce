import json

import pytest

from moq_token import Algorithm, Key

NAMES = ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]


def test_the_twelve() -> None:
    assert [algorithm.value for algorithm in Algorithm] == NAMES
    assert [str(algorithm) for algorithm in Algorithm] == NAMES
    assert json.dumps(Algorithm.EDDSA) == '"EdDSA"'


@pytest.mark.parametrize("algorithm", Algorithm)
def test_kty(algorithm: Algorithm) -> None:
    kinds = {"HS": "oct", "RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
    assert algorithm.kty == kinds[algorithm.value[:2]]
    assert algorithm.symmetric is (algorithm.kty == "oct")


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        *((name, Algorithm(name)) for name in NAMES),
        *((name.lower(), Algorithm(name)) for name in NAMES),
        *((name.upper(), Algorithm(name)) for name in NAMES),
        ("EC256", Algorithm.ES256),
        ("EC384", Algorithm.ES384),
        ("ec256", Algorithm.ES256),
        ("Ed25519", Algorithm.EDDSA),
        ("ed25519", Algorithm.EDDSA),
        ("ED25519", Algorithm.EDDSA),
        ("eDdSa", Algorithm.EDDSA),
    ],
)
def test_parse(name: str, algorithm: Algorithm) -> None:
    assert Algorithm.parse(name) is algorithm


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "none",
        "HS1",
        "HS2560",
        "HS256 ",
        " HS256",
        "ES512",
        "EC521",
        "ES256K",
        "Ed448",
        "RSA",
        "oct",
        "A128GCM",
        "H\u017f256",
    ],
)
def test_parse_names_the_choices(name: str) -> None:
    with pytest.raises(ValueError, match=", ".join(NAMES)):
        Algorithm.parse(name)


@pytest.mark.parametrize("wrong", [None, 1, b"HS256", ["HS256"]], ids=repr)
def test_parse_takes_str(wrong: str) -> None:
    with pytest.raises(TypeError):
        Algorithm.parse(wrong)


@pytest.mark.parametrize("name", ["none", "", "HS256 ", "ES512"])
def test_generate_names_the_choices(name: str) -> None:
    with pytest.raises(ValueError, match=", ".join(NAMES)):
        Key.generate(name)
