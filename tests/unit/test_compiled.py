"""The compiled core: the same as the Python code in what it accepts and says, and silent about what it holds."""

from __future__ import annotations

import copy
import itertools
import pickle
import re
import sys
import tomllib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from moq_token import Algorithm, Claims, Key, __version__, compiled, jws
from tests import forge
from tests.differential import Tokens, compare, pair
from tests.forge import NOW, b64, claim, forged_with, token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
with_core = pytest.mark.skipif(compiled.core() is None, reason="the compiled core is not installed")


def uses_core(key: Key) -> tuple[bool, bool]:
    """Return whether a key signs, and whether it verifies, with the core."""
    signs = type(key._sign).__name__ == "builtin_function_or_method"  # noqa: SLF001
    return signs, key._verify is not None and key._verify.__module__ == compiled.__name__  # noqa: SLF001


# -- when it is used


@with_core
@pytest.mark.parametrize("algorithm", Algorithm)
def test_every_algorithm_uses_the_core(algorithm: Algorithm) -> None:
    plain, fast = pair(algorithm)
    assert uses_core(plain) == (False, False)
    assert uses_core(fast) == (True, True)
    for variant in (fast.with_kid("other"), fast.with_scope(None), fast.with_operations(["sign", "verify"])):
        assert uses_core(variant) == (True, True)
    if not algorithm.symmetric:
        assert uses_core(fast.to_public()) == (False, True)


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Look for the core again, before and after the test."""
    compiled.core.cache_clear()
    yield
    compiled.core.cache_clear()


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize(("version", "used"), [(__version__, True), ("0.0.1", False), (f"{__version__}.post1", False)])
def test_a_core_of_another_version_is_not_used(version: str, used: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    module = ModuleType("moq_token_core")
    module.__dict__["__version__"] = version
    monkeypatch.setitem(sys.modules, "moq_token_core", module)
    assert (compiled.core() is not None) is used


@pytest.mark.usefixtures("forgotten")
def test_it_works_without_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "moq_token_core", None)
    for algorithm in Algorithm:
        key = forge.load(forge.jwk(algorithm))
        assert uses_core(key) == (False, False)
        key.verify(key.sign(Claims("a", "b")))


def test_the_version_of_the_core_is_locked_to_ours() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["optional-dependencies"]["fast"] == [f"moq-token-core=={__version__}"]
    assert tomllib.loads((ROOT / "core/Cargo.toml").read_text(encoding="utf-8"))["package"]["version"] == __version__
    lock = tomllib.loads((ROOT / "core/Cargo.lock").read_text(encoding="utf-8"))["package"]
    assert [package["version"] for package in lock if package["name"] == "moq-token-core"] == [__version__]
    assert "moq-token-core" not in "".join(path.read_text("utf-8") for path in (ROOT / "requirements").glob("*.txt"))


def test_the_licenses_are_those_of_the_locked_libraries() -> None:
    text = (ROOT / "core/LICENSES-THIRD-PARTY").read_text(encoding="utf-8")
    named = re.findall(r"^=+\n([\w-]+) ([\d.]+)\n", text, re.MULTILINE)
    lock = tomllib.loads((ROOT / "core/Cargo.lock").read_text(encoding="utf-8"))["package"]
    assert {"aws-lc-rs", "aws-lc-sys", "base64", "pyo3"} <= {name for name, _ in named}
    assert set(named) <= {(package["name"], package["version"]) for package in lock}


# RSA keys at the edges of what AWS-LC and OpenSSL take. Exponents of more than 33 bits are left to `cryptography`.


def rsa_jwk(e: int, bits: tuple[int, int] = (1024, 1024)) -> dict[str, str]:
    """Make a key with this exponent, and primes of these lengths."""
    p, q = (_prime(size, place) for place, size in enumerate(bits))
    d = pow(e, -1, (p - 1) * (q - 1))
    members = {"n": p * q, "e": e, "d": d, "p": p, "q": q, "dp": d % (p - 1), "dq": d % (q - 1), "qi": pow(q, -1, p)}
    return {"kty": "RSA", **{name: forge.b64int(value) for name, value in members.items()}}


@cache
def _prime(bits: int, place: int) -> int:
    """Find a probable prime, the same each time, that is not one more than a multiple of 3."""
    start = (0xC5 + 0x11 * place << bits - 8) | 1
    return next(
        number
        for number in itertools.count(start, 2)
        if number % 3 == 2 and all(number % small for small in (5, 7, 11, 13)) and pow(2, number - 1, number) == 1
    )


@with_core
@pytest.mark.parametrize(
    ("e", "bits", "used"),
    [
        (3, (1024, 1024), True),
        (65537, (1024, 1024), True),
        (65537, (1024, 1025), True),
        (65537, (990, 1060), True),
        (2**32 + 15, (1024, 1024), True),
        (2**33 - 9, (1024, 1024), True),
        (2**33 + 17, (1024, 1024), False),
        (2**63 + 29, (1024, 1024), False),
        (2**64 - 59, (1024, 1024), False),
    ],
)
@pytest.mark.parametrize("algorithm", [Algorithm.RS256, Algorithm.PS512])
def test_rsa_keys_that_it_cannot_use(algorithm: Algorithm, e: int, bits: tuple[int, int], used: bool) -> None:  # noqa: FBT001
    jwk = {**rsa_jwk(e, bits), "alg": algorithm}
    with patch.object(compiled, "core", lambda: None):
        plain = forge.load(jwk)
    fast = forge.load(jwk)
    assert uses_core(fast) == (used, used)
    assert uses_core(fast.to_public()) == (False, used)
    claims = Claims("a", "b")
    for signer, verifier in itertools.product((plain, fast), (plain, fast, fast.to_public())):
        text = signer.sign(claims)
        assert verifier.verify(text) == claims
        assert forge.refusal(lambda: verifier.verify(text[:-8] + "AAAAAAAA")).reason == "bad-signature"  # noqa: B023


# -- the same verdicts


@with_core
@pytest.mark.parametrize("algorithm", Algorithm)
def test_changed_tokens_have_the_same_verdict(algorithm: Algorithm) -> None:
    keys, tokens = pair(algorithm), Tokens(algorithm, seed=1)
    ended = {
        compare(keys, text, traced=traced)[0] for traced in (False, True) for text in itertools.islice(tokens, 300)
    }
    assert {"accepted", "InvalidTokenError", "InvalidSignatureError"} <= ended


@with_core
@pytest.mark.parametrize("algorithm", Algorithm)
def test_signatures_of_one_hold_for_the_other(algorithm: Algorithm) -> None:
    plain, fast = pair(algorithm)
    for claims in (
        Claims("a", "b"),
        Claims("", "", ""),
        Claims("é", ["x" * 999] * 40),
        Claims("a", "b*c", expires=NOW),
    ):
        ours, theirs = plain.sign(claims), fast.sign(claims)
        assert plain.verify(theirs, now=0) == fast.verify(ours, now=0) == claims
        assert ours.rpartition(".")[0] == theirs.rpartition(".")[0]
        if algorithm[:2] in {"HS", "RS", "Ed"}:
            assert ours == theirs


@with_core
def test_the_bound_of_64_kib_is_the_same() -> None:
    keys = pair(Algorithm.HS256)
    for size in range(jws.MAX_TOKEN_BYTES - 3, jws.MAX_TOKEN_BYTES + 5):
        text = forged_with(size)
        assert compare(keys, text)[0] == ("accepted" if len(text) <= jws.MAX_TOKEN_BYTES else "InvalidTokenError")
    assert forge.refusal(lambda: keys.fast.verify("é" * 10_000_000)).reason == "malformed"


@with_core
def test_what_is_no_str_is_a_type_error() -> None:
    plain, fast = pair(Algorithm.EDDSA)
    values: tuple[Any, ...] = (b"a.b.c", None, 1, [], token(Algorithm.EDDSA).encode(), bytearray(b"a.b.c"))
    for value in values:
        messages = []
        for key in (plain, fast):
            with pytest.raises(TypeError, match="a token must be a str") as caught:
                key.verify(value)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]

    class Text(str):
        __slots__ = ()

    assert fast.verify(Text(token(Algorithm.EDDSA)), now=NOW) == plain.verify(token(Algorithm.EDDSA), now=NOW)


# -- the core by itself


def core_keys(algorithm: Algorithm) -> tuple[bytes, bytes]:
    """Return the private and the public key in the forms that the core takes."""
    material = forge.key(algorithm)._material  # noqa: SLF001
    arguments = algorithm, material.public, material.private
    return compiled._signing_key(*arguments), compiled._verifying_key(*arguments)  # noqa: SLF001


def core() -> Any:  # noqa: ANN401 - a module that may be missing
    return compiled.core()


@with_core
@pytest.mark.parametrize("algorithm", Algorithm)
def test_the_answers(algorithm: Algorithm) -> None:
    text = token(algorithm)
    head = text.partition(".")[0]
    verifier = core().Verifier(algorithm, [head], core_keys(algorithm)[1])
    assert verifier.verify(text) == forge.compact(claim())
    for signature in (b64(bytes(64)), ""):
        assert verifier.verify(f"{text.rpartition('.')[0]}.{signature}") == "bad-signature"
    for malformed in (f"{text}=", f"{text}.", text.partition(".")[2].partition(".")[0], "", ".", "é", "\ud800"):
        assert verifier.verify(malformed) == "malformed"
    for unknown in (f"e30{text}", "..", "e30.e30.e30", "a" * 70_000, "é" * 70_000, None, b"", 1):
        assert verifier.verify(unknown) is None
    assert core().Verifier(algorithm, [], core_keys(algorithm)[1]).verify(text) is None
    data, _, signature = text.rpartition(".")
    assert verifier.check(forge.unb64(signature), data.encode())
    assert not verifier.check(forge.unb64(signature), data.encode() + b"x")


@with_core
@pytest.mark.parametrize("algorithm", Algorithm)
def test_invalid_keys_have_one_message(algorithm: Algorithm) -> None:
    for make, good in zip((core().Signer, core().Verifier), core_keys(algorithm), strict=True):
        header: object = "e30" if make is core().Signer else ["e30"]
        make(algorithm, header, good)
        bad = [] if algorithm.symmetric else [b"", good[:-1], good[1:]]
        for name, key in [(algorithm, key) for key in bad] + [("none", good), ("", good), (algorithm.lower(), good)]:
            with pytest.raises(ValueError, match=re.escape("unsupported algorithm or key")) as caught:
                make(name, header, key)
            assert str(caught.value) == "unsupported algorithm or key"
            assert caught.value.__cause__ is None


@with_core
@pytest.mark.parametrize("algorithm", Algorithm)
def test_objects_of_the_core_show_and_give_away_nothing(algorithm: Algorithm) -> None:
    private, public = core_keys(algorithm)
    for made in (core().Signer(algorithm, "e30", private), core().Verifier(algorithm, ["e30"], public)):
        assert re.fullmatch(r"<moq_token_core\.\w+ object at 0x[0-9a-f]+>", repr(made), re.IGNORECASE)
        public_names = [name for name in dir(made) if not name.startswith("_")]
        assert public_names in (["sign"], ["check", "verify"])
        for action in (copy.copy, copy.deepcopy, pickle.dumps, vars):
            with pytest.raises(TypeError):
                action(made)
        with pytest.raises(AttributeError):
            made.anything = 1
        with pytest.raises(TypeError):
            type("Derived", (type(made),), {})


@with_core
def test_wrong_arguments_are_not_repeated() -> None:
    secret = "secret-" * 9
    data = secret.encode()
    calls: tuple[Callable[[], object], ...] = (
        lambda: core().Signer("HS256", "e30", secret),
        lambda: core().Signer(secret, "e30", data),
        lambda: core().Verifier("HS256", [1], data),
        lambda: core().Signer("HS256", "e30", data).sign(secret),
        lambda: core().Verifier("HS256", [], data).check(secret, b""),
    )
    for call in calls:
        with pytest.raises((TypeError, ValueError)) as caught:
            call()
        assert secret[:7] not in str(caught.value)
