"""Attacks on the compact form and on the header: the key decides, never the token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from moq_token import (
    Algorithm,
    InvalidSignatureError,
    InvalidTokenError,
    KeyNotFoundError,
    KeySet,
    jws,
    read_unverified,
)
from tests import forge
from tests.forge import ASYMMETRIC, GRANT, KID, NOW, ONE_OF_EACH, b64, compact, forged_with, header, reason, token

if TYPE_CHECKING:
    from collections.abc import Callable

HS256, RS256, PS256 = Algorithm.HS256, Algorithm.RS256, Algorithm.PS256


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_forged_token_of_right_form_is_accepted(algorithm: Algorithm) -> None:
    claims = forge.verifier(algorithm).verify(token(algorithm), now=NOW)
    assert (claims.root, claims.publish, claims.subscribe) == ("rooms/123", ("alice",), ("",))


# -- the key decides the algorithm

NAMES = ["none", "None", "NONE", "nOnE", "", " ", "hs256", "HS256 ", "HS256\0", "EC256", "Ed25519", "ES512", "HS1"]


@pytest.mark.parametrize("named", [*NAMES, None, ..., 0, True, ["{alg}"], {"alg": "{alg}"}], ids=repr)
@pytest.mark.parametrize("algorithm", ONE_OF_EACH)
def test_alg_none_and_its_spellings(algorithm: Algorithm, named: object) -> None:
    if isinstance(named, list):
        named = [algorithm]
    if isinstance(named, dict):
        named = {"alg": algorithm}
    head = header(algorithm, alg=named)
    signed = token(algorithm, head=head)
    for text in (signed, f"{signed.rpartition('.')[0]}.", token(algorithm, head=head, signer=lambda _: b"\0" * 64)):
        assert reason(text, algorithm) == "wrong-algorithm"


@pytest.mark.parametrize("claimed", Algorithm)
@pytest.mark.parametrize("algorithm", ONE_OF_EACH)
def test_another_algorithm(algorithm: Algorithm, claimed: Algorithm) -> None:
    """A token signed with another algorithm is refused, whether its header names that algorithm or not."""
    if claimed is not algorithm:
        assert reason(token(claimed), algorithm) == "wrong-algorithm"
        assert reason(token(algorithm, head=header(claimed)), algorithm) == "wrong-algorithm"
        lie = token(algorithm, signer=lambda data: forge.sign(claimed, data))
        assert reason(lie, algorithm) == "bad-signature"


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
@pytest.mark.parametrize("claimed", [Algorithm.HS256, Algorithm.HS384, Algorithm.HS512])
def test_public_key_as_hmac_secret(algorithm: Algorithm, claimed: Algorithm) -> None:
    verifier = forge.verifier(algorithm)
    for form, secret in forge.public_forms(algorithm).items():
        for named, expected in ((claimed, "wrong-algorithm"), (algorithm, "bad-signature")):
            text = token(named, signer=lambda data, secret=secret: forge.mac(claimed, secret, data))  # type: ignore[misc]
            for check in (verifier, forge.key(algorithm), KeySet([verifier])):
                assert forge.refusal(lambda: check.verify(text, now=NOW)).reason == expected, form  # noqa: B023


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_asymmetric_members_are_no_secret(algorithm: Algorithm) -> None:
    """A public key file whose ``alg`` is changed to HMAC is refused: everybody would know its secret."""
    for members in (forge.jwk(algorithm), forge.public_jwk(algorithm)):
        for claimed in forge.SYMMETRIC:
            assert forge.no_key({**members, "alg": claimed})
            assert forge.no_key({**members, "alg": claimed, "kty": "oct"})


@pytest.mark.parametrize("algorithm", [Algorithm.RS256, Algorithm.ES256, Algorithm.EDDSA])
def test_embedded_keys_are_ignored(algorithm: Algorithm, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object) -> None:
        raise AssertionError("a token reached for the network")

    monkeypatch.setattr("socket.socket", no_network)
    monkeypatch.setattr("socket.getaddrinfo", no_network)
    attacker = forge.another_native(algorithm)
    certificate = b64(b"certificate")
    embedded = {
        "jwk": {**forge.jwk_of(algorithm, attacker), "d": None},
        "jku": "https://attacker.example/jwks.json",
        "x5u": "https://attacker.example/cert.pem",
        "x5c": [certificate],
        "x5t": certificate,
        "x5t#S256": certificate,
    }
    for name, value in embedded.items():
        head = header(algorithm, **{name: value})
        forged = token(algorithm, head=head, signer=lambda data: forge.sign(algorithm, data, attacker))
        assert reason(forged, algorithm) == "bad-signature", name
        assert forge.reason_of_set(forged, algorithm) == "bad-signature", name
        # An honest signer may name its own key.
        forge.accepted(token(algorithm, head=head), algorithm)


# -- kid

STRANGE_KIDS = [
    "../../etc/passwd",
    "/dev/null",
    "a\0b",
    "test-key\0",
    "\0",
    "",
    " test-key",
    "test-key ",
    "..",
    "test-key.jwk",
    "https://attacker.example/key",
    "' OR '1'='1",
    "\r\nSet-Cookie: a=b",
    "\x1b[31m",
    "test\u2010key",
    "\uff54est-key",
    "t" * 129,
    "t" * 20_000,
]


@pytest.mark.parametrize("kid", [*STRANGE_KIDS, "TEST-KEY", "test", "test-key-2"], ids=lambda kid: ascii(kid[:20]))
def test_strange_kid_finds_no_key(kid: str) -> None:
    text = token(HS256, head=header(HS256, kid=kid))
    for keys in ([forge.key(HS256)], [forge.key(HS256), forge.key(RS256).with_kid("other")]):
        with pytest.raises(KeyNotFoundError) as caught:
            KeySet(keys).verify(text, now=NOW)
        assert caught.value.kid == kid
        message = str(caught.value)
        assert message.isprintable()
        assert len(message) < 400
    # A lone key has been chosen by the caller, so that the name the token gives it decides nothing.
    forge.accepted(text)


@pytest.mark.parametrize("kid", [*STRANGE_KIDS, "a/b", "a.b", "a b", "é", "a\n", "²"], ids=lambda kid: ascii(kid[:20]))
def test_strange_kid_is_none_of_a_key(kid: str) -> None:
    assert forge.no_key(forge.jwk(HS256, kid=kid))


@pytest.mark.parametrize("kid", [0, 1.5, True, [], ["test-key"], {}], ids=repr)
def test_kid_of_wrong_type(kid: object) -> None:
    text = token(HS256, head=header(HS256, kid=kid))
    assert reason(text) == "malformed"
    assert forge.reason_of_set(text) == "malformed"
    assert forge.no_key(forge.jwk(HS256) | {"kid": kid})


@pytest.mark.parametrize("value", [0, True, [], ["x"], {}], ids=repr)
@pytest.mark.parametrize("name", ["typ", "cty", "jku", "x5u", "x5t", "x5t#S256"])
def test_members_that_relays_read_as_text_must_be_text(name: str, value: object) -> None:
    assert reason(token(HS256, head=header(HS256, **{name: value}))) == "malformed"


def test_a_header_that_is_long_is_not_remembered() -> None:
    """Otherwise, strangers could fill the memory with 1,024 headers of 64 KiB."""
    jws._remembered_kid.cache_clear()  # noqa: SLF001
    remembered = jws._remembered_kid.cache_info  # noqa: SLF001
    for size, is_remembered in ((300, True), (600, False)):
        before = remembered().currsize
        segment = b64(compact({"alg": "HS256", "kid": "k" * size})).encode()
        assert jws.kid_in(segment) == "k" * size
        assert (remembered().currsize > before) == is_remembered, size
    assert remembered().maxsize == 1024


# -- crit and b64


@pytest.mark.parametrize("crit", [["b64"], ["exp"], ["unknown"], [], None, "", "exp", True, {}], ids=repr)
@pytest.mark.parametrize("algorithm", [Algorithm.HS256, Algorithm.EDDSA])
def test_crit_is_refused(algorithm: Algorithm, crit: object) -> None:
    assert reason(token(algorithm, head=header(algorithm, crit=crit)), algorithm) == "malformed"
    assert reason(token(algorithm, head=header(algorithm, crit=crit, b64=True, unknown=1)), algorithm) == "malformed"


@pytest.mark.parametrize("value", [False, None, 0, 1, "true", "false", []], ids=repr)
def test_unencoded_payload_is_refused(value: object) -> None:
    assert reason(token(HS256, head=header(HS256, b64=value))) == "malformed"
    # RFC 7797 signs the payload as it is; so this would be a valid token where that is understood.
    head, payload = b64(compact(header(HS256, b64=False, crit=["b64"]))), compact(GRANT).decode()
    assert reason(forge.segments(HS256, head, payload)) == "malformed"


def test_encoded_payload_may_be_said_aloud() -> None:
    forge.accepted(token(HS256, head=header(HS256, b64=True)))


# -- base64url


def _with_minus_and_underscore(salt: int) -> bytes:
    return compact({**GRANT, "x": "?>?>?>", "y": "~" * (salt % 5), "salt": salt})


def _dangling(segment: str) -> list[str]:
    """Change the last character so that a lax decoder still reads the same bytes."""
    return [segment[:-1] + last for last in forge.ALPHABET if forge.unb64(segment[:-1] + last) == forge.unb64(segment)]


SPELLINGS: dict[str, Callable[[str], list[str]]] = {
    "padding": lambda text: [text + "=" * (-len(text) % 4), text + "=", text + "==", text + "===", text + "===="],
    "padding within": lambda text: [text[:4] + "=" + text[4:], text[:4] + "====" + text[4:]],
    "plus": lambda text: [text.replace("-", "+")],
    "slash": lambda text: [text.replace("_", "/")],
    "white space": lambda text: (
        [text[:5] + space + text[5:] for space in " \t\r\n\v\f\0"]
        + [text + space for space in (" ", "\t", "\r", "\n", "\r\n", "\0")]
        + [space + text for space in (" ", "\t", "\n")]
    ),
    "trailing bits": _dangling,
    "lookalikes": lambda text: [
        text.replace(text[2], "Ａ", 1),  # noqa: RUF001
        text.replace(text[2], "\u0430", 1),
        text[:4] + "\u200b" + text[4:],
        text + "\u00a0",
        "\ufeff" + text,
        text[:3] + "\ud800" + text[4:],
    ],
    "impossible length": lambda text: [text[: len(text) // 4 * 4] + "A"],
    "other characters": lambda text: [text[:4] + other + text[5:] for other in "*,:;!~%&'\"\\$#@|^`(){}[]<>?"],
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("position", [0, 1, 2], ids=["header", "payload", "signature"])
def test_base64url_has_one_spelling(position: int, spelling: str) -> None:
    """Such a token is refused even if the signature covers its unusual spelling."""
    tried = 0
    for salt in range(400):
        head = b64(compact(header(HS256, x="?>?>?>", y="~" * (salt % 3))))
        good = forge.segments(HS256, head, b64(_with_minus_and_underscore(salt))).split(".")
        wanted = {"plus": "-", "slash": "_"}.get(spelling, "")
        if wanted not in good[position] or (spelling == "trailing bits" and len(good[position]) % 4 == 0):
            continue
        forge.accepted(".".join(good))
        for odd in set(SPELLINGS[spelling](good[position])) - {good[position]}:
            parts = [*good]
            parts[position] = odd
            assert reason(".".join(parts)) == "malformed", odd
            if position < 2 and odd.isascii():
                assert reason(forge.segments(HS256, *parts[:2])) == "malformed", odd
            tried += 1
        if tried > 20:
            break
    assert tried


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "malformed"),
        (".", "malformed"),
        ("..", "malformed"),
        ("...", "malformed"),
        ("{h}", "malformed"),
        ("{h}.", "malformed"),
        ("{h}.{p}", "malformed"),
        (".{p}.{s}", "malformed"),
        ("{h}..{s}", "bad-signature"),
        ("{h}.{p}.", "bad-signature"),
        ("{h}..", "bad-signature"),
        ("{h}.{p}.{s}.", "malformed"),
        (".{h}.{p}.{s}", "malformed"),
        ("{h}.{p}..{s}", "malformed"),
        ("{h}..{p}.{s}", "malformed"),
        ("{h}.{p}.{s}.{s}", "malformed"),
        ("{h}.{p}.{s}.{h}.{p}", "malformed"),
        ("{h}.{p}.{s}.{h}.{p}.{s}", "malformed"),
        ("{p}.{h}.{s}", "wrong-algorithm"),
        ("{s}.{h}.{p}", "malformed"),
        (" {h}.{p}.{s}", "malformed"),
        ("{h}.{p}.{s} ", "malformed"),
        ("{h}.{p}.{s}\n", "malformed"),
        ("\ufeff{h}.{p}.{s}", "malformed"),
        ("{h}.{p}.{s}\0", "malformed"),
        ("{h} . {p} . {s}", "malformed"),
        ("{h},{p},{s}", "malformed"),
        ("{h}%2E{p}%2E{s}", "malformed"),
        ("Bearer {h}.{p}.{s}", "malformed"),
        ("jwt={h}.{p}.{s}", "malformed"),
        ('"{h}.{p}.{s}"', "malformed"),
        ("{h}․{p}․{s}", "malformed"),  # noqa: RUF001
        ('{{"protected":"{h}","payload":"{p}","signature":"{s}"}}', "malformed"),
        ('{{"payload":"{p}","signatures":[{{"protected":"{h}","signature":"{s}"}}]}}', "malformed"),
    ],
)
def test_segments(text: str, expected: str) -> None:
    h, p, s = token(HS256).split(".")
    assert reason(text.format(h=h, p=p, s=s)) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.b", "three segments between dots, this has 2"),
        ("a.b.c.d", "three segments between dots, this has 4"),
        ("a.b.c", "not canonical base64url"),
        ("é.b.c", "not canonical base64url"),
    ],
)
def test_the_error_says_what_is_wrong_with_the_segments(text: str, said: str) -> None:
    with pytest.raises(InvalidTokenError, match=said):
        forge.key(HS256).verify(text, now=NOW)


@pytest.mark.parametrize("text", [b"a.b.c", None, 1, ["a", "b", "c"], bytearray(b"a.b.c")], ids=repr)
def test_what_is_no_str_is_no_token(text: str) -> None:
    for function in (forge.key(HS256).verify, KeySet([forge.key(HS256)]).verify, read_unverified):
        with pytest.raises(TypeError):
            function(text)


# -- size


def test_the_token_is_bounded() -> None:
    forge.accepted(forged_with(64 * 1024))
    for size in (64 * 1024 + 1, 64 * 1024 + 2, 1024 * 1024):
        text = forged_with(size)
        assert len(text) >= size
        with pytest.raises(InvalidTokenError, match="longer than 65536"):
            forge.key(HS256).verify(text, now=NOW)
        assert reason(text) == "malformed"
    for text in ("." * 10_000_000, "A" * 10_000_000, "😀" * 65_537):
        for function in (forge.key(HS256).verify, KeySet([forge.key(HS256)]).verify, read_unverified):
            with pytest.raises(InvalidTokenError, match="longer than 65536"):
                function(text)


# -- the header's JSON


def _duplicates(name: str, first: object, second: object) -> list[bytes]:
    return [
        b"{%b:%b,%b:%b}" % (compact(name), compact(one), other, compact(two))
        for one, two in ((first, second), (second, first), (first, first))
        for other in (compact(name), b'"\\u%04x%b"' % (ord(name[0]), name[1:].encode()))
    ]


@pytest.mark.parametrize(
    "head",
    [
        *_duplicates("alg", "HS256", "none"),
        *(b'{"alg":"HS256",' + text[1:] for text in _duplicates("kid", KID, "other")),
        *(b'{"alg":"HS256",' + text[1:] for text in _duplicates("typ", "JWT", "JWE")),
        b'{"alg":"HS256","b64":true,"b64":true}',
    ],
)
def test_no_member_of_the_header_stands_twice(head: bytes) -> None:
    assert reason(token(HS256, head=head)) == "malformed"
    assert forge.reason_of_set(token(HS256, head=head)) == "malformed"


NOT_JSON = [
    b"",
    b" ",
    b"{",
    b"}",
    b"{}}",
    b"{%b}{}",
    b"{%b} x",
    b"{%b}\0",
    b"\0{%b}",
    b"{%b,}",
    b"{,%b}",
    b"{%b,'x':1}",
    b'{%b,"x":NaN}',
    b'{%b,"x":Infinity}',
    b'{%b,"x":-Infinity}',
    b'{%b,"x":01}',
    b'{%b,"x":+1}',
    b'{%b,"x":.5}',
    b'{%b,"x":1.}',
    b'{%b,"x":0x10}',
    b'{%b,"x":1_0}',
    b'{%b,"x":True}',
    b'{%b,"x":undefined}',
    b'{%b,"x":"\n"}',
    b'{%b,"x":"\0"}',
    b'{%b,"x":"\\x41"}',
    b'{%b,"x":"\\u12"}',
    b'{%b,"x":"}',
    b"{%b,x:1}",
    b"{%b/* x */}",
    b"{%b} // x",
    b'{%b,"x":\xc2\xa01}',
    # Text that is no Unicode, or another encoding of it.
    b"\xef\xbb\xbf{%b}",
    b"{%b}\xef\xbb\xbf",
    b'{%b,"x":"\xff"}',
    b'{%b,"x":"\xc0\xaf"}',
    b'{%b,"x":"\xe0\x80\xaf"}',
    b'{%b,"x":"\xf0\x80\x80\xaf"}',
    b'{%b,"x":"\xf4\x90\x80\x80"}',
    b'{%b,"x":"\xed\xa0\x80"}',
    b'{%b,"x":"\xed\xa0\xbd\xed\xb8\x80"}',
    b'{%b,"x":"\xe2\x82"}',
    b'{%b,"\xff":1}',
    b'{%b,"x":"\\ud800"}',
    b'{%b,"x":"\\udc00"}',
    b'{%b,"x":"\\ude00\\ud83d"}',
    b'{%b,"x":"\\ud83d\\ud83d\\ude00"}',
    b'{%b,"x":"\\ud83dx"}',
    b'{%b,"x":["\\uDBFF"]}',
    b'{%b,"x":{"\\ud800":1}}',
    b'{%b,"\\ud800":1}',
]


@pytest.mark.parametrize("text", NOT_JSON)
def test_header_and_claims_are_json_in_utf_8(text: bytes) -> None:
    for position in (0, 1):
        parts = [compact(header(HS256)), compact(GRANT)]
        parts[position] = text.replace(b"%b", parts[position][1:-1])
        bad = forge.segments(HS256, *map(b64, parts))
        assert reason(bad) == "malformed"
        assert forge.refusal(lambda: read_unverified(bad)).reason == "malformed"  # noqa: B023


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "latin-1"])
def test_other_encodings(codec: str) -> None:
    for position in (0, 1):
        parts = [compact(header(HS256, x="é")), compact(forge.claim(x="é"))]
        parts[position] = parts[position].decode().encode(codec)
        assert reason(forge.segments(HS256, *map(b64, parts))) == "malformed"


@pytest.mark.parametrize("text", [b"[]", b'["alg","HS256"]', b'"HS256"', b"1", b"1.5", b"null", b"true"])
def test_header_is_an_object(text: bytes) -> None:
    assert reason(token(HS256, head=text)) == "malformed"
    assert forge.reason_of_set(token(HS256, head=text)) == "malformed"


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":', '{"\\u0061":[['])
@pytest.mark.parametrize("depth", [900, 1000, 5_000, 20_000])
def test_nesting(opening: str, depth: int) -> None:
    """At any depth of nesting, the result is a refusal or the claims, never a crash."""
    deep = (opening * depth)[:22_000].encode()
    closing = b"".join(b"]" if character == ord("[") else b"}" for character in reversed(deep) if character in b"[{")
    for end in (closing, b""):
        head = b'{"alg":"HS256","kid":"test-key","x":' + deep + b"1" + end + b"}"
        text = token(HS256, head=head, signer=lambda _: b"x")
        assert reason(text) in {"malformed", "bad-signature"}
        payload = b'{"root":"","put":' + deep + b'"a"' + end + b"}"
        assert reason(token(HS256, payload)) in {"malformed", "bad-claims"}


def test_spellings_of_a_good_header() -> None:
    """Order, white space, escapes, unknown members and a missing ``typ`` make no difference."""
    for head in (
        b'{"alg":"HS256"}',
        b' { "alg" : "HS256" } \r\n\t',
        b'{"\\u0061lg":"\\u0048S256"}',
        b'{"alg":"HS256","typ":"at+jwt","cty":"x","unknown":{"a":[null,1.5,"\\ud83d\\ude00"]}}',
        b'{"kid":null,"alg":"HS256","typ":null}',
    ):
        forge.accepted(token(HS256, head=head))
        KeySet([forge.key(HS256)]).verify(token(HS256, head=head), now=NOW)


@pytest.mark.parametrize("name", ["typ", "cty", "jku", "x5u", "x5t", "x5t#S256", "enc", "zip", "url", "nonce"])
def test_a_member_of_text(name: str) -> None:
    """Relays of both generations refuse a registered member of the wrong type, though they do not use it."""
    for text in "x", "", None:
        forge.accepted(token(HS256, head=compact({"alg": "HS256", name: text})))
    for value in 5, 1.5, True, False, [], ["x"], {}, {"x": "y"}:
        assert reason(token(HS256, head=compact({"alg": "HS256", name: value}))) == "malformed"


def test_members_with_a_key_or_a_certificate() -> None:
    good: list[tuple[str, object]] = [("jwk", {}), ("jwk", {"kty": "oct"}), ("x5c", []), ("x5c", ["x"])]
    for name, value in [*good, ("jwk", None), ("x5c", None)]:
        forge.accepted(token(HS256, head=compact({"alg": "HS256", name: value})))
    bad: list[object] = ["x", 5, False, [1], ["x", None]]
    for name, value in [*((name, value) for name in ("jwk", "x5c") for value in bad), ("jwk", []), ("x5c", {})]:
        assert reason(token(HS256, head=compact({"alg": "HS256", name: value}))) == "malformed"


def test_the_usual_headers_are_no_exception_to_the_check() -> None:
    """Headers that other libraries write are accepted without parsing, but only for this key."""
    for head in (
        b'{"typ":"JWT","alg":"HS256","kid":"test-key"}',
        b'{"alg":"HS256","typ":"JWT","kid":"test-key"}',
        b'{"alg":"HS256","kid":"test-key","typ":"JWT"}',
        b'{"alg":"HS256","kid":"test-key"}',
        b'{"typ":"JWT","alg":"HS256"}',
        b'{"alg":"HS256","typ":"JWT"}',
    ):
        text = token(HS256, head=head)
        forge.accepted(text)
        with pytest.raises(InvalidSignatureError):
            forge.key(HS256).verify(token(HS256, head=head, signer=lambda _: b"\0" * 32), now=NOW)
        for algorithm in (Algorithm.HS384, RS256, PS256):
            assert reason(text, algorithm) == "wrong-algorithm"
