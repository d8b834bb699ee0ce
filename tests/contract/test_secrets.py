"""No object and no error reveals a secret by accident, in any kind of output.

Secret are the private members of keys, tokens and their signatures, and passwords. What is secret leaves by the methods
that say so (``to_json``, ``to_str``, ``to_file``, ``to_pem``, ``sign``) and by nothing else.
"""

from __future__ import annotations

import copy
import inspect
import io
import json
import logging
import pickle
import pprint
import reprlib
import string
import sys
import traceback
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import moq_token
from moq_token import Algorithm, Claims, Error, Key, KeySet, Scope, read_unverified
from moq_token.cli import main
from tests import forge
from tests.forge import ASYMMETRIC, PRIVATE_MEMBERS, b64, claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

PACKAGE = Path(moq_token.__file__).parent
PASSWORD = "hunter2-horse-battery"
CLAIMS = Claims("rooms/123", "alice", "", expires=1)


@cache
def key(algorithm: Algorithm) -> Key:
    """Return a random key, because members of the fixed keys could appear in other texts by chance."""
    if algorithm.kty == "RSA" and algorithm is not Algorithm.RS256:
        return Key.from_str(key(Algorithm.RS256).to_json().replace("RS256", algorithm))
    return Key.generate(algorithm, "secret-test")


@cache
def members(algorithm: Algorithm) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(key(algorithm).to_json())
    return loaded


@cache
def token(algorithm: Algorithm) -> str:
    return key(algorithm).sign(CLAIMS)


# -- finding a secret


def slices(text: str, length: int = 11) -> set[str]:
    """Return pieces of a secret, because some outputs show only the start or the end of a long text."""
    return {text[start : start + length] for start in {0, len(text) // 2 - length // 2, len(text) - length}}


@cache
def needles() -> frozenset[str]:
    found = {PASSWORD}
    for algorithm in Algorithm:
        for name in PRIVATE_MEMBERS[algorithm.kty]:
            text = members(algorithm)[name]
            data = forge.unb64(text)
            found |= slices(text) | slices(data.hex()) | slices(str(int.from_bytes(data)))
            found |= slices(repr(data)[2:-1])
        whole = key(algorithm).to_str()
        found |= {whole[start : start + 12] for start in range(len(whole) * 2 // 3, len(whole) - 12, 12)}
        _, payload, signature = token(algorithm).split(".")
        found |= slices(payload) | slices(signature) | slices(repr(forge.unb64(signature))[2:-1])
    return frozenset(found)


@cache  # most errors say the same
def check(text: str) -> None:
    leaked = [needle for needle in needles() if needle in text]
    assert not leaked, f"{len(leaked)} pieces of secrets in: {text[:300]}"


def test_a_secret_would_be_found() -> None:
    for algorithm in Algorithm:
        for text in (
            key(algorithm).to_json(),
            key(algorithm).to_str(),
            repr(key(algorithm).to_members()),
            token(algorithm),
        ):
            with pytest.raises(AssertionError, match="pieces of secrets"):
                check(text)
        for name in PRIVATE_MEMBERS[algorithm.kty]:
            data = forge.unb64(members(algorithm)[name])
            for text in (repr(data), str(int.from_bytes(data)), data.hex(), reprlib.repr(members(algorithm)[name])):
                with pytest.raises(AssertionError, match="pieces of secrets"):
                    check(f"x {text} x")


# -- objects


def logged(value: object) -> str:
    stream = io.StringIO()
    logger = logging.Logger("secrets")  # noqa: LOG001 - one of its own, that no other test hears
    logger.addHandler(logging.StreamHandler(stream))
    logger.warning("%s %r %a", value, value, value)
    logger.warning(value)
    return stream.getvalue()


def attributes(value: object) -> Iterator[str]:
    for name in dir(value):
        attribute = inspect.getattr_static(value, name), getattr(value, name, None)
        yield repr(attribute)
        yield pprint.pformat(attribute)
    for _, attribute in inspect.getmembers(value):
        yield repr(attribute)


def in_a_traceback(value: object) -> str:
    try:
        getattr(value, "no such attribute")
    except AttributeError as error:
        return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    raise AssertionError


WAYS_OUT: dict[str, Callable[[Any], str]] = {
    "repr": repr,
    "str": str,
    "ascii": ascii,
    "format": lambda value: f"{value}" + format(value) + f"{value!s:>200}",
    "percent": lambda value: "%s %r" % (value, value),  # noqa: UP031
    "template": lambda value: string.Template("$value").substitute(value=value),
    "containers": lambda value: repr([value, (value,), {"key": value}]),
    "pprint": pprint.pformat,
    "reprlib": reprlib.repr,
    "logging": logged,
    "attributes": lambda value: "\n".join(attributes(value)),
    "traceback": in_a_traceback,
    "copy": lambda value: repr([copy.copy(value), copy.deepcopy(value)]),
    "json": lambda value: json.dumps([value], default=repr),
}


def objects() -> dict[str, object]:
    found: dict[str, object] = {}
    for algorithm in Algorithm:
        loaded = key(algorithm)
        found[f"{algorithm} key"] = loaded
        found[f"{algorithm} variant"] = loaded.with_kid(None).with_scope(Scope("a", "b")).with_operations(["sign"])
        found[f"{algorithm} set"] = KeySet([loaded])
        found[f"{algorithm} material"] = loaded._material  # noqa: SLF001 - what a debugger comes across
        found[f"{algorithm} unverified"] = read_unverified(token(algorithm))
        found[f"{algorithm} claims"] = loaded.verify(token(algorithm), now=0)
        if not algorithm.symmetric:
            found[f"{algorithm} public half"] = loaded.to_public()
            found[f"{algorithm} loaded from PEM"] = Key.from_pem(loaded.to_pem(PASSWORD), algorithm, password=PASSWORD)
    return found


@pytest.mark.parametrize("way", WAYS_OUT)
def test_objects(way: str) -> None:
    for name, value in objects().items():
        if name.endswith("material") and way in {"attributes", "json"}:
            continue  # it holds the members, which is what it is for
        check(f"{name}: {WAYS_OUT[way](value)}")


def test_objects_that_hold_secrets_are_not_written_by_accident() -> None:
    for value in (value for name, value in objects().items() if not name.endswith(("unverified", "claims"))):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises((TypeError, AttributeError, pickle.PicklingError)) as caught:
                pickle.dumps(value, protocol)
            check(str(caught.value))
        with pytest.raises(TypeError):
            vars(value)


# -- errors


def local(value: object) -> str:
    """Show a local variable as crash reporters do, which also print incomplete objects."""
    try:
        return f"{value!r} {pprint.pformat(value)}"
    except AttributeError:
        return "<repr failed>"


def texts(error: BaseException) -> Iterator[str]:
    """Return every text that an error, its causes and the package's frames in its traceback can show."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        pending += [one.__cause__, one.__context__]
        yield from (str(one), repr(one), repr(one.args), repr(vars(one)), repr(getattr(one, "__notes__", "")))
        for frame, _ in traceback.walk_tb(one.__traceback__):
            if PACKAGE in Path(frame.f_code.co_filename).parents:
                for name, value in frame.f_locals.items():
                    yield f"{frame.f_code.co_qualname}: {name} = {local(value)}"
        if isinstance(one, Error):
            yield repr(pickle.dumps(one))
            yield repr(pickle.dumps(one, 0))


def logged_with_its_traceback(error: BaseException) -> str:
    stream = io.StringIO()
    logger = logging.Logger("secrets")  # noqa: LOG001
    logger.addHandler(logging.StreamHandler(stream))
    logger.error("failed", exc_info=error)
    return stream.getvalue()


def fails(call: Callable[[], object]) -> None:
    """Make a call that must fail, and check everything that its error shows."""
    try:
        call()
    except Exception as error:  # noqa: BLE001
        for text in texts(error):
            check(text)
        check(logged_with_its_traceback(error).split("Traceback")[-1].splitlines()[-1])
        return
    raise AssertionError("it did not fail")


def damaged(algorithm: Algorithm) -> Iterator[str | bytes]:
    """Damage a key file in every way that reading it must detect."""
    good = members(algorithm)
    text = key(algorithm).to_json()
    for name in PRIVATE_MEMBERS[algorithm.kty]:
        value = good[name]
        for bad in (
            f"{value}!",
            f"{value}=====",
            [value],
            {"a": value},
            value[:20],
            value + "AAAA",
            f"\n{value}",
            f"é{value}",
        ):
            if algorithm.symmetric and bad == value + "AAAA":
                continue  # another secret
            yield json.dumps({**good, name: bad})
        if not algorithm.symmetric:
            yield json.dumps({**good, name: b64(bytes(byte ^ 1 for byte in forge.unb64(value)))})
        for other in ("alg", "kty", "kid", "key_ops", "scope", "crv", "n", "x"):
            if other in {"crv", "x", "n"} and other not in good:
                continue
            yield json.dumps({**good, other: value + "+"})
            yield json.dumps({**good, other: [value]})
            yield json.dumps({**good, other: {"root": value, "put": [], value: value}})
    yield text[:-1]
    yield text + text
    yield text + "\0"
    yield text[:-1] + ',"alg":"HS256"}'
    yield text[:-1] + ',"x":"\\ud800"}'
    yield text[:-1] + ',"x":"\ud800"}'
    yield text[:-1] + ',"x":NaN}'
    yield text.encode()[:-1] + b',"x":"\xff"}'
    yield text.replace('"', "'")
    yield "[" + text + "]"
    yield json.dumps(text)
    yield text.ljust(2_000_000)
    yield text.encode("utf-16")[:-1]
    yield key(algorithm).to_str() + "!"
    yield key(algorithm).to_str()[:-5] + "\n" + key(algorithm).to_str()[-5:]
    yield b64(text[:-1].encode())


@pytest.mark.parametrize(
    "algorithm", [algorithm for algorithm in forge.ONE_OF_EACH if algorithm is not Algorithm.PS256]
)
def test_damaged_keys(algorithm: Algorithm, tmp_path: Path) -> None:
    path = tmp_path / "key.jwk"
    for text in damaged(algorithm):
        fails(lambda: Key.from_str(text))  # noqa: B023
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        path.write_bytes(data)
        fails(lambda: Key.from_file(path))
        fails(lambda: KeySet.from_file(path))
        fails(lambda: KeySet.from_str(b'{"keys":[%b]}' % data))  # noqa: B023
        fails(lambda: KeySet.from_str(text))  # noqa: B023
        fails(lambda: Key.from_pem(text, Algorithm.ES256, password=PASSWORD))  # noqa: B023
    for wrong in (bytearray(key(algorithm).to_json().encode()), members(algorithm), [key(algorithm).to_json()]):
        fails(lambda: Key.from_str(wrong))  # type: ignore[arg-type] # noqa: B023
        fails(lambda: KeySet.from_str(wrong))  # type: ignore[arg-type] # noqa: B023
        fails(lambda: Key.from_pem(wrong, Algorithm.ES256))  # type: ignore[arg-type] # noqa: B023


def interrupted(call: Callable[[], object], at: int) -> KeyboardInterrupt | None:
    """Make a call, and raise KeyboardInterrupt at the line of the package with this number, counted from 0."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        nonlocal count
        if PACKAGE not in Path(frame.f_code.co_filename).parents:
            return None
        # The interpreter looks for signals before the first line of a function too; nothing can be done there.
        if event == "line" and frame.f_code.co_name not in {"wrapper", "bare", "verify"}:
            if count == at:
                sys.settrace(None)
                raise KeyboardInterrupt
            count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt as error:
        return error
    finally:
        sys.settrace(before)
    return None


def test_an_interrupt_at_any_line_shows_nothing() -> None:
    loaded = key(Algorithm.HS256)
    text, pem = loaded.to_json(), key(Algorithm.EDDSA).to_pem(PASSWORD)
    token_text = token(Algorithm.HS256)
    calls: dict[str, Callable[[], object]] = {
        "from_str": lambda: Key.from_str(text),
        "from_pem": lambda: Key.from_pem(pem, password=PASSWORD),
        "from_secret": lambda: Key.from_secret(PASSWORD * 2),
        "set": lambda: KeySet.from_str(f'{{"keys":[{text}]}}'),
        "to_json": loaded.to_json,
        "to_str": loaded.to_str,
        "thumbprint": loaded.thumbprint,
        "verify": lambda: loaded.verify(token_text, now=0),
    }
    for name, call in calls.items():
        call()  # imports what it imports late
        at = 0
        while (error := interrupted(call, at)) is not None:
            for shown in texts(error):
                check(shown)
            at += 1
        assert at > 3, name


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_pem(algorithm: Algorithm) -> None:
    plain, encrypted = key(algorithm).to_pem(), key(algorithm).to_pem(PASSWORD)
    other = Algorithm.ES256 if algorithm is not Algorithm.ES256 else Algorithm.EDDSA
    fails(lambda: Key.from_pem(plain, algorithm, password=PASSWORD))
    fails(lambda: Key.from_pem(plain, other))
    fails(lambda: Key.from_pem(plain, Algorithm.HS256))
    fails(lambda: Key.from_pem(plain, "nonsense"))
    fails(lambda: Key.from_pem(encrypted, "nonsense", password=PASSWORD))
    fails(lambda: Key.from_pem(plain, algorithm, kid="a/b"))
    fails(lambda: Key.from_pem(encrypted, algorithm, kid="a/b", password=PASSWORD))
    fails(lambda: Key.from_pem(encrypted, algorithm, kid=5, password=PASSWORD))  # type: ignore[arg-type]
    fails(lambda: Key.from_pem(encrypted, algorithm))
    fails(lambda: Key.from_pem(encrypted, algorithm, password=PASSWORD + "x"))
    fails(lambda: Key.from_pem(encrypted, algorithm, password=PASSWORD * 100))
    fails(lambda: Key.from_pem(encrypted, algorithm, password=PASSWORD + "\ud800"))
    fails(lambda: Key.from_pem(encrypted, algorithm, password=[PASSWORD]))  # type: ignore[arg-type]
    fails(lambda: Key.from_pem(encrypted, algorithm, password=bytearray(PASSWORD.encode())))  # type: ignore[arg-type]
    fails(lambda: Key.from_pem(encrypted[:-40], algorithm, password=PASSWORD))
    fails(lambda: Key.from_pem(plain[:-40], algorithm))
    fails(lambda: Key.from_pem(plain.replace("PRIVATE", "PUBLIC"), algorithm))
    fails(lambda: Key.from_pem(plain.replace("PRIVATE KEY", "CERTIFICATE"), algorithm))
    fails(lambda: Key.from_pem(plain[:60] + "!" + plain[61:-60] + plain[-50:], algorithm))
    fails(lambda: key(algorithm).to_public().to_pem(PASSWORD))
    fails(lambda: key(algorithm).to_pem(""))
    fails(lambda: key(algorithm).to_pem(PASSWORD * 100))
    fails(lambda: key(algorithm).to_pem(PASSWORD + "\ud800"))
    fails(lambda: key(algorithm).to_pem([PASSWORD]))  # type: ignore[arg-type]


@pytest.mark.parametrize("algorithm", Algorithm)
def test_other_uses_of_a_key(algorithm: Algorithm) -> None:
    loaded = key(algorithm)
    fails(lambda: loaded.sign(Claims()))
    fails(lambda: loaded.sign(None))  # type: ignore[arg-type]
    fails(lambda: loaded.sign(Claims("x" * 70_000, "a")))
    fails(lambda: loaded.with_operations(["verify"]).sign(CLAIMS))
    fails(lambda: loaded.with_scope(Scope("elsewhere", "")).sign(CLAIMS))
    fails(lambda: loaded.with_scope(Scope()))
    fails(lambda: loaded.with_kid("a/b"))
    fails(lambda: loaded.with_operations(["x"]))
    fails(lambda: setattr(loaded, "kid", None))
    fails(lambda: delattr(loaded, "_material"))
    fails(lambda: pickle.dumps(loaded))
    fails(lambda: pickle.dumps(KeySet([loaded])))
    fails(lambda: KeySet([loaded] * 1001))
    fails(lambda: KeySet([loaded, loaded.to_json()]))  # type: ignore[list-item]
    fails(lambda: KeySet([loaded.with_operations([])]).sign(CLAIMS))
    fails(lambda: json.dumps(loaded))
    if algorithm.symmetric:
        fails(loaded.to_public)
        fails(loaded.to_pem)
        fails(lambda: loaded.to_pem(PASSWORD))
        fails(KeySet([loaded]).to_public_set)
    else:
        fails(lambda: loaded.to_public().sign(CLAIMS))


@pytest.mark.parametrize("algorithm", Algorithm)
def test_files(algorithm: Algorithm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    paths: list[Any] = [
        tmp_path,
        tmp_path / "link",
        tmp_path / "no" / "where",
        tmp_path / "file" / "x",
        "a\0b",
        "",
        b"x",
        5,
        None,
    ]
    for value in (key(algorithm), KeySet([key(algorithm)])):
        for path in paths:
            fails(lambda: value.to_file(path))  # noqa: B023
        fails(lambda: value.to_file(tmp_path / "file", overwrite=False))  # noqa: B023
    fails(lambda: key(algorithm).to_file(tmp_path, base64=True))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace", "open"):
        with monkeypatch.context() as patch:
            patch.setattr(f"os.{name}", full)
            for value in (key(algorithm), KeySet([key(algorithm)])):
                fails(lambda: value.to_file(tmp_path / "other"))  # noqa: B023
    if Path("/dev/full").exists():
        fails(lambda: key(algorithm).to_file("/dev/full"))


def bad_tokens(algorithm: Algorithm) -> Iterator[Any]:
    good = token(algorithm)
    data, _, signature = good.rpartition(".")
    head, payload = data.split(".")
    yield good  # expired
    yield f"{data}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
    yield from (good + "=", good + ".", " " + good, good + "\n", f"{payload}.{head}.{signature}", f"{head}.{payload}")
    yield from (
        f"é{good}",
        good + "\ud800",
        good * 1000,
        good.encode(),
        bytearray(good.encode()),
        [good],
        {"jwt": good},
    )
    sign = key(algorithm)._material.sign  # noqa: SLF001
    assert sign is not None
    for claims in (
        claim(exp=1),
        claim(nbf=2**50),
        claim(aud="x"),
        claim(put=[], get=[]),
        claim(put=5, x=good),
        claim(root="elsewhere"),
        claim(exp="x", x=good),
        b'{"x":"%b"' % good.encode(),
        b'{"x":"%b","x":1}' % good.encode(),
        b'{"x":"%b\xff"}' % good.encode(),
        b'{"x":"%b\\ud800"}' % good.encode(),
        b'["%b"]' % good.encode(),
    ):
        for header in (
            forge.header(algorithm, kid="secret-test"),
            forge.header(algorithm, kid="secret-test", crit=[good]),
            forge.header(algorithm, kid="unknown"),
            forge.header(algorithm, kid=[good]),
            b'{"alg":"%b"' % good.encode(),
            b"[]",
        ):
            yield forge.token(algorithm, claims, header, sign)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_tokens(algorithm: Algorithm) -> None:
    half = key(algorithm) if algorithm.symmetric else key(algorithm).to_public()
    verifier = half.with_scope(Scope("rooms", "", ""))
    other = KeySet([half.with_kid("one"), half.with_kid("two")])
    for text in bad_tokens(algorithm):
        fails(lambda: verifier.verify(text))  # noqa: B023
        fails(lambda: KeySet([verifier]).verify(text))  # noqa: B023
        fails(lambda: other.verify(text))  # noqa: B023
        fails(lambda: verifier.with_operations([]).verify(text))  # noqa: B023
        fails(lambda: KeySet([verifier.with_operations([])]).verify(text))  # noqa: B023
        try:
            read_unverified(text)
        except (Error, TypeError):
            fails(lambda: read_unverified(text))  # noqa: B023
    good = token(algorithm)
    for leeway in (-1, float("nan"), "x", None):
        fails(lambda: verifier.verify(good, now=0, leeway=leeway))  # type: ignore[arg-type] # noqa: B023
        fails(lambda: KeySet([verifier]).verify(good, leeway=leeway))  # type: ignore[arg-type] # noqa: B023
    for now in ("x", [], object()):
        fails(lambda: verifier.verify(good, now=now))  # type: ignore[arg-type] # noqa: B023
        fails(lambda: KeySet([verifier]).verify(good, now=now))  # type: ignore[arg-type] # noqa: B023


# -- the command line

COMMANDS = ["generate", "sign", "verify", "inspect", "explain", "public", "import", "export", "thumbprint", "jwks"]


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_shows_no_default_that_is_secret(
    command: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "key.jwk"
    key(Algorithm.EDDSA).to_file(path)
    for data in (key(Algorithm.HS256).to_json(), key(Algorithm.EDDSA).to_str()):
        monkeypatch.setenv("MOQ_TOKEN_KEY_DATA", data)
        monkeypatch.setenv("MOQ_TOKEN_KEY", str(path))
        assert main([*([] if command is None else [command]), "--help"]) == 0
        shown = capsys.readouterr()
        assert "--help" in shown.out
        check(shown.out + shown.err)
        assert str(path) not in shown.out


def test_a_key_where_none_belongs(capsys: pytest.CaptureFixture[str]) -> None:
    """A secret that is pasted into an argument does not appear on the screen or in the log of a build."""
    for algorithm in (Algorithm.HS256, Algorithm.EDDSA):
        for secret in (key(algorithm).to_json(), key(algorithm).to_str(), token(algorithm)):
            for command in COMMANDS:
                for arguments in (
                    ["--key", secret],
                    [secret],
                    [f"--{secret}"],
                    ["--algorithm", secret],
                    ["--expires", secret],
                ):
                    main([command, *arguments])
            main([secret])
    captured = capsys.readouterr()
    leaks = [line for line in captured.err.splitlines() if any(needle in line for needle in needles())]
    assert not leaks, leaks[:3]
