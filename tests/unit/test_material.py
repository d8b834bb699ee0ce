"""Keys in files: what is read, what is refused, and that a damaged key never makes signatures that do not verify."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from moq_token import Algorithm, Claims, InvalidKeyError, InvalidKeyIdError, Key, KeyOperation, Scope
from tests import forge
from tests.forge import ASYMMETRIC, KID, NOW, ONE_OF_EACH, RSA, b64, b64int, compact, jwk, load, no_key, public_jwk
from tests.naming import named

HS256, RS256, ES256, ES384, EDDSA = (
    Algorithm.HS256,
    Algorithm.RS256,
    Algorithm.ES256,
    Algorithm.ES384,
    Algorithm.EDDSA,
)
MODULUS = forge.rsa_native().public_key().public_numbers().n


# -- the table of members


@pytest.mark.parametrize("algorithm", Algorithm)
def test_the_fixed_keys_are_read(algorithm: Algorithm) -> None:
    key = load(jwk(algorithm))
    assert key.algorithm is algorithm
    assert key.kid == KID
    assert key.operations == {KeyOperation.SIGN, KeyOperation.VERIFY}
    assert key.scope is None
    assert key.is_private
    claims = Claims("a", "b")
    assert forge.verifier(algorithm).verify(key.sign(claims)) == claims


def test_missing_kty_is_a_secret() -> None:
    assert load(jwk(HS256, kty=None)) == load(jwk(HS256))
    for algorithm in ASYMMETRIC:
        assert "`kty`" in no_key(jwk(algorithm, kty=None))


@pytest.mark.parametrize("kty", ["OCT", "Oct", "rsa", "RSA", "EC", "OKP", "", "AKP", 1, True, ["oct"], {}], ids=named)
def test_kty_fits_alg(kty: object) -> None:
    for algorithm in ONE_OF_EACH:
        if kty != algorithm.kty:
            assert "`kty`" in no_key(jwk(algorithm) | {"kty": kty})
    assert no_key(jwk(HS256) | {"kty": None})


@pytest.mark.parametrize(
    "alg",
    [
        "none",
        "",
        "hs256",
        "HS1",
        "HS256 ",
        "EC256",
        "EC384",
        "ES512",
        "ES256K",
        "ED25519",
        "ed25519",
        "Ed448",
        "RSA-OAEP",
    ],
)
def test_names_are_case_sensitive(alg: str) -> None:
    for algorithm in ONE_OF_EACH:
        assert "`alg`" in no_key(jwk(algorithm, alg=alg))


@pytest.mark.parametrize("alg", [None, 1, True, ["HS256"], {"alg": "HS256"}], ids=named)
def test_alg_is_required(alg: object) -> None:
    assert "`alg`" in no_key(jwk(HS256) | {"alg": alg})
    assert "`alg`" in no_key(jwk(HS256, alg=None))


def test_ed25519_is_eddsa() -> None:
    key = load(jwk(EDDSA, alg="Ed25519"))
    assert key == load(jwk(EDDSA))
    assert json.loads(key.to_json())["alg"] == "EdDSA"
    for algorithm in ONE_OF_EACH[:-1]:
        assert no_key(jwk(algorithm, alg="Ed25519"))


@pytest.mark.parametrize("claimed", Algorithm)
@pytest.mark.parametrize("algorithm", Algorithm)
def test_alg_fits_the_material(algorithm: Algorithm, claimed: Algorithm) -> None:
    for members in (jwk(algorithm, alg=claimed), public_jwk(algorithm, alg=claimed)):
        if "k" not in members and algorithm.symmetric:
            continue
        if claimed == algorithm or {claimed.kty, algorithm.kty} == {"RSA"} or {claimed.kty, algorithm.kty} == {"oct"}:
            load(members)
        else:
            no_key(members)


@pytest.mark.parametrize(
    ("key_ops", "expected"),
    [
        (None, {"sign", "verify"}),
        ([], set()),
        (["sign"], {"sign"}),
        (["verify", "sign"], {"sign", "verify"}),
        (["verify", "verify"], {"verify"}),
        (["decrypt", "encrypt"], {"decrypt", "encrypt"}),
        (["sign", "verify", "decrypt", "encrypt"], {"sign", "verify", "decrypt", "encrypt"}),
    ],
)
def test_key_ops(key_ops: list[str] | None, expected: set[str]) -> None:
    key = load(jwk(HS256, key_ops=key_ops))
    assert key.operations == expected
    written = json.loads(key.to_json())["key_ops"]
    assert sorted(written) == sorted(expected)
    assert load(jwk(HS256, key_ops=written)) == key


@pytest.mark.parametrize(
    "key_ops", ["sign", "", 1, True, {}, {"sign": 1}, ["Sign"], ["wrapKey"], ["sign", None], [["sign"]], [{}], [""]]
)
def test_what_are_no_key_ops(key_ops: object) -> None:
    assert "`key_ops`" in no_key(jwk(HS256, key_ops=key_ops))


def test_kid() -> None:
    assert load(jwk(HS256, kid=None)).kid is None
    for kid in ("a", "A-Z_09", "-", "_", "0", "x" * 128):
        assert load(jwk(HS256, kid=kid)).kid == kid
    for kid in ("", "x" * 129, "a.b", "a/b", "é", "a b", "a\n"):
        with pytest.raises(InvalidKeyIdError):
            load(jwk(HS256, kid=kid))


def test_unknown_members_are_ignored_and_not_written() -> None:
    extra = {
        "use": "sig",
        "ext": True,
        "x5c": ["x"],
        "guest": ["a"],
        "guest_pub": "b",
        "guest_sub": None,
        "root": "x",
        "exp": 1,
        "unknown": {"k": [1.5, None, "\ud83d\ude00"]},
        "KID": "other",
    }
    for algorithm in ONE_OF_EACH:
        key = load({**extra, **jwk(algorithm), **extra})
        assert key == load(jwk(algorithm))
        written = json.loads(key.to_json())
        assert written.keys() == {*jwk(algorithm), "key_ops"}


@pytest.mark.parametrize("algorithm", Algorithm)
def test_what_is_written(algorithm: Algorithm) -> None:
    scope = {"root": "project", "put": ["live"], "get": ["", "watch"]}
    members = jwk(algorithm, scope=scope)
    assert json.loads(load(members).to_json()) == {**members, "key_ops": ["sign", "verify"]}
    assert "kid" not in json.loads(load(jwk(algorithm, kid=None)).to_json())
    if not algorithm.symmetric:
        public = json.loads(load(members).to_public().to_json())
        assert public == public_jwk(algorithm, scope=scope)
        assert not set(public) & set(forge.PRIVATE_MEMBERS[algorithm.kty])


# -- scope


@pytest.mark.parametrize(
    ("written", "scope"),
    [
        (None, None),
        ({"root": "project", "put": ["live"], "get": ["watch"]}, Scope("project", "live", "watch")),
        ({"put": [""]}, Scope(publish="")),
        ({"get": ["a", "b"], "unknown": 1}, Scope(subscribe=["a", "b"])),
        ({"root": "", "put": [], "get": ["é"]}, Scope(subscribe="é")),
    ],
)
def test_scope(written: dict[str, object] | None, scope: Scope | None) -> None:
    key = load(jwk(EDDSA, scope=written))
    assert key.scope == scope
    assert load(json.loads(key.to_json())) == key
    assert key.to_public().scope == scope


@pytest.mark.parametrize(
    "scope",
    [
        {},
        {"root": "a"},
        {"put": []},
        {"put": [], "get": []},
        {"publish": []},
        {"publish": [], "subscribe": []},
        {"publish": "a"},
        {"publish": None},
        {"publish": ["a", 1]},
        {"publish": ["/a"]},
        {"publish": ["a**"]},
        {"publish": ["**"] * 4097},
        {"put": ["a"], "publish": ["a"]},
        {"put": [], "subscribe": ["a"]},
        {"put": "a"},
        {"put": ["a"] * 4097},
        {"put": None, "get": None},
        {"root": None, "put": ["a"]},
        {"root": 1, "put": ["a"]},
        {"put": [1]},
        {"put": [["a"]]},
        {"put": {"a": 1}},
        {"put": ["a"], "get": 1},
        "a",
        ["a"],
        1,
        True,
        [],
        "",
    ],
)
def test_what_is_no_scope(scope: object) -> None:
    assert "scope" in no_key(jwk(HS256, scope=scope))


def test_scope_members_do_not_stand_twice() -> None:
    for scope in (
        '{"put":["a"],"put":["b"]}',
        '{"root":"a","put":["b"],"root":"c"}',
        '{"get":["a"],"g\\u0065t":["a"]}',
    ):
        text = json.dumps(jwk(HS256, scope="SCOPE")).replace('"SCOPE"', scope)
        no_key(text)


# -- binary members


@pytest.mark.parametrize("algorithm", Algorithm)
def test_padding_is_accepted_on_reading(algorithm: Algorithm) -> None:
    names = {"k", "n", "e", "x", "y", *forge.PRIVATE_MEMBERS[algorithm.kty]}
    members = jwk(algorithm)
    padded = {name: value + "=" * (-len(value) % 4) if name in names else value for name, value in members.items()}
    assert (padded != members) is (algorithm is not ES384)  # 48 bytes need no padding
    assert load(padded) == load(members)
    assert load(padded).to_json() == load(members).to_json()


@pytest.mark.parametrize("algorithm", ONE_OF_EACH)
def test_members_have_one_spelling(algorithm: Algorithm) -> None:
    members = jwk(algorithm)
    for name in ("k", "n", "e", "crv", "x", "y", *forge.PRIVATE_MEMBERS[algorithm.kty]):
        if name not in members:
            continue
        value = members[name]
        bad: list[object] = [value + "====", value + "=====", value[:4] + "=" + value[4:], "=" + value, value + "A=="]
        bad += [value[:2] + space + value[2:] for space in " \n\t\r\0"] + [" " + value, value + "\n", value + "\u00a0"]
        bad += ["A", "+" + value[1:], "/" + value[1:], "\u0410" + value[1:], "=", "====", "!", value + "."]
        bad += [1, True, ["A"], {}, 1.5, [value]]
        if len(value) % 4:
            bad += [value + "=" * (-len(value) % 4 + 1), value + "=" if len(value) % 4 == 2 else value + "=="]
            bad += [value[:-1] + "_"]  # bits beyond the last byte
        for other in bad:
            assert f"`{name}`" in no_key({**members, name: other}), other
        no_key({**members, name: ""})


def test_leading_zeros_of_integers() -> None:
    """Some tools write leading zeros. The number is the same, and this package writes it without them."""
    for names in (["n"], ["e"], ["n", "e", *forge.PRIVATE_MEMBERS["RSA"]]):
        members = jwk(RS256)
        for name in names:
            members[name] = b64(b"\0" + forge.unb64(members[name]))
        key = load(members)
        assert key == load(jwk(RS256))
        assert key.to_json() == load(jwk(RS256)).to_json()
        assert key.thumbprint() == load(jwk(RS256)).thumbprint()
    # A signature still has the modulus's length, not that of the member.
    load({**jwk(RS256), "n": b64(b"\0" + forge.unb64(jwk(RS256)["n"]))}).verify(forge.token(RS256), now=NOW)


# -- weak keys


@pytest.mark.parametrize("algorithm", forge.SYMMETRIC)
def test_short_secrets(algorithm: Algorithm) -> None:
    for length in (0, 1, 16, 31):
        assert "`k`" in no_key(jwk(algorithm, k=b64(b"x" * length)))
    for length in (32, 33, 48, 63, 64, 65, 127, 128, 129, 1000):
        key = load(jwk(algorithm, k=b64(b"x" * length)))
        text = forge.token(algorithm, signer=lambda data: forge.mac(algorithm, b"x" * length, data))  # noqa: B023
        assert key.verify(text, now=NOW) == forge.accepted(forge.token(algorithm), algorithm)
        assert forge.refusal(lambda: key.verify(forge.token(algorithm), now=NOW)).reason == "bad-signature"  # noqa: B023


def rsa_public(n: int, e: int = 65537) -> dict[str, Any]:
    return public_jwk(RS256, n=b64int(n), e=b64int(e) if e else "AA")


@pytest.mark.parametrize("bits", [1, 8, 512, 1024, 1536, 2047, 8193, 16384])
def test_rsa_modulus_out_of_bounds(bits: int) -> None:
    assert "`n`" in no_key(rsa_public(2 ** (bits - 1) + 1))
    assert "`n`" in no_key(rsa_public(2**bits - 1))


@pytest.mark.parametrize("bits", [2048, 2049, 3072, 4096, 8192])
def test_rsa_modulus_within_bounds(bits: int) -> None:
    for n in (2 ** (bits - 1) + 1, 2**bits - 1):
        key = load(rsa_public(n))
        assert key.algorithm is RS256
        assert forge.refusal(lambda: key.verify(forge.token(RS256), now=NOW)).reason == "bad-signature"  # noqa: B023


def test_rsa_modulus_is_odd() -> None:
    for n in (MODULUS - 1, MODULUS + 1, 2**2047, 2**2048 - 2):
        assert "`n`" in no_key(rsa_public(n))


@pytest.mark.parametrize("e", [0, 1, 2, 4, 65536, 65538, 2**64, 2**64 + 1, 2**2047 + 1, MODULUS, MODULUS - 2])
def test_rsa_exponents_that_are_refused(e: int) -> None:
    assert "`e`" in no_key(rsa_public(MODULUS, e))


@pytest.mark.parametrize("e", [3, 5, 17, 257, 65537, 2**31 + 1, 2**32 + 15, 2**63 + 1, 2**64 - 1])
@pytest.mark.parametrize("bits", [2048, 4096, 8192])
def test_rsa_exponents_that_are_accepted(e: int, bits: int) -> None:
    key = load(rsa_public(2**bits - 1, e))
    assert forge.refusal(lambda: key.verify(forge.token(RS256), now=NOW)).reason == "bad-signature"


@pytest.mark.parametrize("name", ["n", "e"])
def test_rsa_public_members_are_required(name: str) -> None:
    assert f"`{name}`" in no_key({**jwk(RS256), name: None})
    assert f"`{name}`" in no_key(jwk(RS256, **{name: None}))


@pytest.mark.parametrize("algorithm", RSA)
def test_rsa_has_all_private_members_or_none(algorithm: Algorithm) -> None:
    names = forge.PRIVATE_MEMBERS["RSA"]
    for number in range(1, 2 ** len(names) - 1):
        missing = {name: None for bit, name in enumerate(names) if number >> bit & 1}
        message = no_key(jwk(algorithm, **missing))
        assert all(name in message for name in missing)
    assert not load(jwk(algorithm, **dict.fromkeys(names))).is_private


@pytest.mark.parametrize(
    ("algorithm", "crv"),
    [
        (ES256, "P-384"),
        (ES384, "P-256"),
        (ES384, "P-521"),
        (ES256, "P-521"),
        (ES256, "secp256k1"),
        (ES256, "p-256"),
        (ES256, "secp256r1"),
        (ES256, "Ed25519"),
        (EDDSA, "Ed448"),
        (EDDSA, "X25519"),
        (EDDSA, "ed25519"),
        (EDDSA, "P-256"),
        (EDDSA, None),
        (ES256, None),
        (ES384, ""),
    ],
)
def test_crv_fits_alg(algorithm: Algorithm, crv: str | None) -> None:
    for members in (jwk(algorithm, crv=crv), public_jwk(algorithm, crv=crv)):
        assert "`crv`" in no_key(members)


def test_a_key_of_p_521() -> None:
    native = ec.generate_private_key(ec.SECP521R1())
    point = native.public_key().public_numbers()
    members = {"kty": "EC", "x": b64int(point.x, 66), "y": b64int(point.y, 66), "alg": "ES512", "crv": "P-521"}
    for alg in ("ES512", "ES384", "ES256"):
        for crv in ("P-521", "P-384", "P-256"):
            no_key({**members, "alg": alg, "crv": crv})


# -- points


@pytest.mark.parametrize("algorithm", [ES256, ES384])
def test_points_beside_the_curve(algorithm: Algorithm) -> None:
    size, p = 32 if algorithm is ES256 else 48, forge.FIELDS[algorithm]
    good = forge.ec_native(algorithm).public_key().public_numbers()
    top = 256**size - 1
    beside = [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
        (good.x, 0),
        (0, good.y),
        (good.y, good.x),
        (good.x, good.y ^ 1),
        (good.x ^ 1, good.y),
        (good.x, good.x),
        (p, good.y),
        (good.x, p),
        (p, p),
        (top, top),
        (p - 1, p - 1),
        (good.x, p - 1),
    ]
    if good.x + p <= top:
        beside.append((good.x + p, good.y))
    for x, y in beside:
        for members in (jwk(algorithm), public_jwk(algorithm)):
            no_key({**members, "x": b64int(x, size), "y": b64int(y, size)})


@pytest.mark.parametrize("algorithm", [ES256, ES384])
def test_a_coordinate_beyond_the_field(algorithm: Algorithm) -> None:
    """The point of ``x = 0`` or another small one can also be written with the prime added."""
    size, p = 32 if algorithm is ES256 else 48, forge.FIELDS[algorithm]
    point = forge.ec_native(algorithm).public_key().public_numbers()
    b = (point.y**2 - point.x**3 + 3 * point.x) % p
    tried = 0
    for small in range(60):
        square = (small**3 - 3 * small + b) % p
        root = pow(square, (p + 1) // 4, p)  # both primes are 3 modulo 4
        if root * root % p != square:
            continue
        load(public_jwk(algorithm, x=b64int(small, size), y=b64int(root, size)))
        no_key(public_jwk(algorithm, x=b64int(small + p, size), y=b64int(root, size)))
        tried += 1
    assert tried > 5


@pytest.mark.parametrize("algorithm", [ES256, ES384, EDDSA])
@pytest.mark.parametrize("name", ["x", "y", "d"])
def test_members_have_the_length_of_the_curve(algorithm: Algorithm, name: str) -> None:
    members = jwk(algorithm)
    if name not in members:
        return
    good = forge.unb64(members[name])
    for bad in (
        good[1:],
        good[:-1],
        b"\0" + good,
        good + b"\0",
        good + good,
        good.lstrip(b"\0") if good[0] == 0 else b"",
    ):
        assert f"`{name}`" in no_key({**members, name: b64(bad)})
    if name != "d":
        assert f"`{name}`" in no_key(jwk(algorithm, **{name: None}))


@pytest.mark.parametrize("algorithm", [ES256, ES384])
def test_private_numbers_of_no_curve(algorithm: Algorithm) -> None:
    n, size = forge.ORDERS[algorithm], 32 if algorithm is ES256 else 48
    d = forge.ec_native(algorithm).private_numbers().private_value
    for bad in (0, n, n + 1, n - d, 256**size - 1, d + 1):
        no_key(jwk(algorithm, d=b64int(bad, size)))
    # For a library that reduces it, d + n is the same number: here the private number 5.
    members = forge.jwk_of(algorithm, forge.ec_native(algorithm, 5))
    load({**members, "alg": algorithm})
    no_key({**members, "alg": algorithm, "d": b64int(5 + n, size)})


# -- halves that do not belong together


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_halves_of_two_keys(algorithm: Algorithm) -> None:
    mine = forge.jwk_of(algorithm, forge.native(algorithm))
    other = forge.jwk_of(algorithm, forge.another_native(algorithm))
    differing = [name for name in mine if mine[name] != other[name]]
    for number in range(1, 2 ** len(differing) - 1):
        mixed = {name: other[name] for bit, name in enumerate(differing) if number >> bit & 1}
        no_key({**mine, **mixed, "alg": algorithm})
    load({**other, "alg": algorithm})


def test_the_other_point_of_the_same_x() -> None:
    for algorithm in (ES256, ES384):
        size, y = 32 if algorithm is ES256 else 48, forge.ec_native(algorithm).public_key().public_numbers().y
        minus_y = b64int(forge.FIELDS[algorithm] - y, size)
        load(public_jwk(algorithm, y=minus_y))
        no_key(jwk(algorithm, y=minus_y))
    x = bytearray(forge.unb64(jwk(EDDSA)["x"]))
    x[-1] ^= 0x80
    load(public_jwk(EDDSA, x=b64(bytes(x))))
    no_key(jwk(EDDSA, x=b64(bytes(x))))


def signs_nothing_false(members: dict[str, Any], verifier: Key) -> None:
    """Check that a key is refused when it is loaded, or that its signatures verify with its public half."""
    try:
        key = load(members)
    except InvalidKeyError:
        return
    claims = Claims("a", "b")
    assert verifier.verify(key.sign(claims)) == claims


ANY_MEMBER = st.sampled_from(
    [(algorithm, name) for algorithm in ASYMMETRIC for name in forge.PRIVATE_MEMBERS[algorithm.kty]]
)


@given(ANY_MEMBER, st.lists(st.integers(0, 4095), min_size=1, max_size=3))
def test_flipped_bits_of_a_private_member(member: tuple[Algorithm, str], bits: list[int]) -> None:
    algorithm, name = member
    members = jwk(algorithm)
    data = bytearray(forge.unb64(members[name]))
    for bit in bits:
        data[bit // 8 % len(data)] ^= 1 << bit % 8
    signs_nothing_false({**members, name: b64(bytes(data))}, forge.verifier(algorithm))


@given(ANY_MEMBER, st.binary(max_size=300))
def test_another_value_of_a_private_member(member: tuple[Algorithm, str], data: bytes) -> None:
    algorithm, name = member
    signs_nothing_false({**jwk(algorithm), name: b64(data)}, forge.verifier(algorithm))


@given(st.sampled_from(ASYMMETRIC), st.integers(0, 4095))
def test_flipped_bits_of_a_public_member(algorithm: Algorithm, bit: int) -> None:
    for name in {"n", "e", "x", "y"} & set(jwk(algorithm)):
        members = jwk(algorithm)
        data = bytearray(forge.unb64(members[name]))
        data[bit // 8 % len(data)] ^= 1 << bit % 8
        no_key({**members, name: b64(bytes(data))})


def rsa_jwk(**changes: int) -> dict[str, Any]:
    return jwk(RS256, **{name: b64int(value) if value else "" for name, value in changes.items()})


def test_rsa_numbers_that_nearly_fit() -> None:
    numbers = forge.rsa_native().private_numbers()
    n, e, d, p, q = MODULUS, numbers.public_numbers.e, numbers.d, numbers.p, numbers.q
    phi = (p - 1) * (q - 1)
    near: list[dict[str, int]] = [
        {"d": d + phi, "dp": (d + phi) % (p - 1), "dq": (d + phi) % (q - 1)},
        {"d": n},
        {"d": 1, "dp": 1, "dq": 1},
        {"p": 1, "q": n},
        {"p": n, "q": 1},
        {"p": q, "q": p},
        {"p": q},
        {"dp": numbers.dmp1 + p - 1},
        {"dq": numbers.dmq1 + q - 1},
        {"dp": numbers.dmq1, "dq": numbers.dmp1},
        {"qi": numbers.iqmp + p},
        {"qi": p - numbers.iqmp},
        {"qi": pow(p, -1, q)},
        {"qi": 1},
        {"dp": 1},
        {"e": e + 2},
        {"e": 3},
        {"n": n + 2},
        {"n": p * p},
        {"n": p * p, "q": p},
        {"p": p + 2, "q": q},
    ]
    for changes in near:
        no_key(rsa_jwk(**changes))
    # The same key, its primes in the other order.
    swapped = rsa_jwk(p=q, q=p, dp=numbers.dmq1, dq=numbers.dmp1, qi=pow(p, -1, q))
    forge.verifier(RS256).verify(load(swapped).sign(Claims("a", "b")))
    signs_nothing_false(rsa_jwk(d=d % (phi // 2)), forge.verifier(RS256))


def test_numbers_that_fit_though_the_factors_are_no_primes() -> None:
    """Consistent numbers are not enough: the signatures of such a key would not verify."""
    numbers = forge.rsa_native().private_numbers()
    e = 65537
    for factor in (3, 5, 7, 9):
        p, q = numbers.p * factor, numbers.q
        d_p, d_q = (pow(e, -1, prime - 1) for prime in (p, q))
        # The Chinese remainder of both, where p-1 and q-1 share no more than 2.
        d = next((d for d in range(d_p, (p - 1) * 400, p - 1) if d % (q - 1) == d_q), None)
        members = rsa_jwk(n=p * q, p=p, q=q, dp=d_p, dq=d_q, qi=pow(q, -1, p), d=d or d_p)
        no_key(members)


def prime(bits: int, seed: int) -> int:
    """Find a prime for tests: the first one above a fixed number."""
    candidate = (1 << bits - 1) | (seed << bits - 10) | 1
    while not all(pow(base, candidate - 1, candidate) == 1 for base in (2, 3, 5, 7)) or candidate % 65537 == 1:
        candidate += 2
    return candidate


def crafted(p: int, q: int, e: int = 65537) -> dict[str, Any]:
    """Return the members of a key with consistent numbers, whether or not its factors are primes."""
    d_p, d_q, shared = pow(e, -1, p - 1), pow(e, -1, q - 1), math.gcd(p - 1, q - 1)
    assert (d_q - d_p) % shared == 0
    steps = (d_q - d_p) // shared * pow((p - 1) // shared, -1, (q - 1) // shared) % ((q - 1) // shared)
    d = d_p + (p - 1) * steps
    return rsa_jwk(n=p * q, e=e, p=p, q=q, dp=d_p, dq=d_q, qi=pow(q, -1, p), d=d)


def test_a_crafted_key_would_be_read() -> None:
    numbers = forge.rsa_native().private_numbers()
    assert load(crafted(numbers.p, numbers.q)).is_private


def test_a_trial_signature_finds_factors_that_are_no_primes() -> None:
    """All numbers are consistent, and both factors have the right length: only a test signature shows the damage."""
    q = forge.rsa_native().private_numbers().q
    products = (prime(513, seed) * prime(513, 300 + seed) for seed in range(1, 200, 2))
    p = next(p for p in products if math.gcd(p - 1, q - 1) == 2 and math.gcd(65537, p - 1) == 1)
    assert "private half" in no_key(crafted(p, q))


def test_factors_that_make_a_modulus_easy_to_factor() -> None:
    large = 2**2203 - 1  # a prime of Mersenne
    for small in (3, 5, 7, 257, 2**521 - 1):
        assert "private half" in no_key(crafted(large, small))
        assert "private half" in no_key(crafted(small, large))
    p = forge.rsa_native().private_numbers().p
    assert "private half" in no_key(crafted(p, p + 1698))  # the next prime


# -- the text


def test_json_and_base64url_files() -> None:
    for algorithm in Algorithm:
        text = json.dumps(jwk(algorithm), indent=2)
        key = Key.from_str(text)
        spaces = (" ", "\n", "\r\n", "\t", "\n\n  ")
        forms = [text, b64(text.encode()), b64(compact(jwk(algorithm))), b64(b"\n" + text.encode() + b"\n")]
        forms += [form + "=" * (-len(form) % 4) for form in forms[1:]]
        for form in forms:
            assert Key.from_str(form) == key
            assert Key.from_str(form.encode()) == key
            for space in spaces:
                assert Key.from_str(space + form + space) == key
        assert Key.from_str(key.to_json()) == key
        assert Key.from_str(key.to_str()) == key
        assert not set(key.to_str()) & set("{}=+/\n ")


@pytest.mark.parametrize("name", ["alg", "kty", "kid", "key_ops", "k", "scope"])
def test_no_member_stands_twice(name: str) -> None:
    members = jwk(HS256, key_ops=["verify"], scope={"put": ["a"]})
    text = json.dumps(members)
    for again in (json.dumps(name), f'"\\u{ord(name[0]):04x}{name[1:]}"'):
        for value in (json.dumps(members[name]), "null"):
            no_key(f"{text[:-1]},{again}:{value}}}")
            no_key(f"{{{again}:{value},{text[1:]}")
            no_key(b64(f"{text[:-1]},{again}:{value}}}".encode()))


GOOD = json.dumps(jwk(HS256))


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        "}",
        "{}",
        "[]",
        f"[{GOOD}]",
        "null",
        "1",
        '""',
        json.dumps(GOOD),
        GOOD[:-1],
        GOOD + "}",
        GOOD + GOOD,
        GOOD + "\0",
        "\0" + GOOD,
        GOOD[:-1] + ",}",
        GOOD[:-1] + ',"x":NaN}',
        GOOD[:-1] + ',"x":"\\ud800"}',
        GOOD[:-1] + ',"\\udfff":1}',
        GOOD[:-1] + ',"x":"\ud800"}',
        "\ud800",
        b"\xff",
        GOOD.encode()[:-1] + b',"x":"\xff"}',
        GOOD.encode()[:-1] + b',"x":"\xc0\x80"}',
        GOOD.encode("utf-16")[:-1],
        GOOD.encode("utf-32")[:-2],
        b"\xff\xfe" + b"\0\xd8" * 20,
        b64(GOOD.encode()) + "\n" + b64(GOOD.encode()),
        b64(GOOD.encode())[:20] + "\n" + b64(GOOD.encode())[20:],
        b64(GOOD.encode()) + "!",
        b64(b64(GOOD.encode()).encode()),
        b64(b"[]"),
        b64(b"\xff\xfe"),
        b64(b""),
        "=" * 10,
        "A",
        "not a key",
        "eyJhbGciOiJIUzI1NiJ9.e30.AAAA",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
    ],
)
def test_text_that_is_no_key(text: str | bytes) -> None:
    no_key(text)


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
def test_nesting(opening: str) -> None:
    for depth in (1_000, 100_000):
        deep = opening * depth
        closing = "".join("]" if character == "[" else "}" for character in reversed(deep) if character in "[{")
        for text in (deep, deep + "1" + closing, f'{GOOD[:-1]},"x":{deep}1{closing}}}', f'{GOOD[:-1]},"x":{deep}'):
            if depth == 1_000 and text.startswith(GOOD[:-1]) and text.endswith("}"):
                continue  # deep, but not too deep for every interpreter
            no_key(text)
        for name in ("k", "alg", "kid", "key_ops", "scope"):
            no_key(f'{json.dumps(jwk(HS256, **{name: None}))[:-1]},"{name}":{deep}1{closing}}}')


def test_a_key_is_bounded() -> None:
    mebibyte = 1024 * 1024
    assert Key.from_str(GOOD.ljust(mebibyte)) == Key.from_str(GOOD)
    for text in (GOOD.ljust(mebibyte + 1), GOOD.encode().ljust(mebibyte + 1), "é" * (mebibyte // 2 + 1)):
        assert "1048576" in no_key(text)
    padded = json.dumps(jwk(HS256, x="x" * (mebibyte - 1000)))
    assert Key.from_str(padded) == Key.from_str(GOOD)
    assert "`n`" in no_key(public_jwk(RS256, n="A" * 500_000))
    assert "`e`" in no_key(public_jwk(RS256, e="A" * 500_000))
    assert "`d`" in no_key(jwk(RS256, d="_" * 400_000))


@pytest.mark.parametrize("text", [None, 1, bytearray(b"{}"), memoryview(b"{}"), {"kty": "oct"}, ["{}"]], ids=named)
def test_what_is_neither_str_nor_bytes(text: str) -> None:
    with pytest.raises(TypeError):
        Key.from_str(text)
