"""Compare the compiled core with the Python code: the same tokens must have the same verdict, reason and message.

Run it for long with ``make fuzz-core``. The unit tests run a slice of it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple
from unittest.mock import patch

from moq_token import Algorithm, Key, RefusedError, Trace, compiled
from tests import forge
from tests.forge import ALPHABET, NOW, b64, claim, header, unb64

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Outcome = tuple[object, ...]

_STRANGE = (
    "",
    ".",
    "..",
    "=",
    "==",
    "+",
    "/",
    "-",
    "_",
    " ",
    "\n",
    "\0",
    "A",
    "é",
    "\u2028",
    "\ud800",
    "😀",
    "A" * 90_000,
)
_HEADERS: dict[str, tuple[object, ...]] = {
    "alg": (*Algorithm, "none", "hs256", "", None, 1, ...),
    "typ": (..., "jwt", None, 1, ["JWT"]),
    "kid": (..., "other", "", None, 1, "é", "x" * 5000),
    "crit": (["exp"], []),
    "b64": (False, True),
    "cty": (1, "JWT"),
    "jwk": ({"kty": "oct"},),
    "x5c": ([""],),
}
_CLAIMS: dict[str, tuple[object, ...]] = {
    "put": (..., [], "a", ["a", "b"], [1], None, ["*"], ["\ud83d\ude00"], ["\ud800"], ["a"] * 300),
    "exp": (..., NOW - 1, NOW, NOW + 1, float(NOW), -1, 2**63, "1", None, True),
    "root": (..., "", "é", 1, None, "/a//b/"),
    "aud": ("x",),
    "cluster": (True, 1),
    "nbf": (NOW - 1, NOW + 1),
    "x": ({"y": [1.5]},),
}
_BYTES = (b"", b"{", b"[]", b"null", b"\xff", b'{"put":["a"],"put":["b"]}', b'{ "put" : ["a"] }', b"\xef\xbb\xbf{}")


class Pair(NamedTuple):
    """The same key without and with the core."""

    plain: Key
    fast: Key


def pair(algorithm: Algorithm) -> Pair:
    """Load the fixed key twice."""
    with patch.object(compiled, "core", lambda: None):
        plain = forge.load(forge.jwk(algorithm))
    return Pair(plain, forge.load(forge.jwk(algorithm)))


def outcome(key: Key, token: str, *, traced: bool = False) -> Outcome:
    """Return what a key makes of a token: its claims, or the class, the reason and the text of the error."""
    trace = Trace() if traced else None
    try:
        if trace is None:
            return ("accepted", key.verify(token, now=NOW))
        with trace:
            return ("accepted", key.verify(token, now=NOW, trace=trace))
    except RefusedError as error:
        steps = () if trace is None else (trace.passed, trace.failed)
        return (type(error).__name__, error.reason, str(error), *steps)


def compare(pair: Pair, token: str, *, traced: bool = False) -> Outcome:
    """Return what both keys make of a token. Raises ``AssertionError`` where they differ."""
    plain, fast = outcome(pair.plain, token, traced=traced), outcome(pair.fast, token, traced=traced)
    assert plain == fast, f"{pair.plain.algorithm}: {plain} without the core, {fast} with it: {token!r}"
    return plain


class Tokens:
    """An endless supply of tokens for one algorithm, changed at every level. Few are valid."""

    def __init__(self, algorithm: Algorithm, seed: int) -> None:
        self.algorithm = algorithm
        self._random = random.Random(f"{algorithm} {seed}")  # noqa: S311 - the same each time
        self._good = [forge.token(algorithm, claim(jti=str(number))) for number in range(20)]
        self._pool = list(self._good)
        self._pool += [
            forge.token(algorithm, head=header(algorithm, **{name: value}))
            for name, values in _HEADERS.items()
            for value in values
        ]
        self._pool += [
            forge.token(algorithm, json.dumps(claim(**{name: value})).encode())
            for name, values in _CLAIMS.items()
            for value in values
        ]
        self._pool += [forge.token(algorithm, payload) for payload in _BYTES]
        self._pool += [forge.token(algorithm, head=payload) for payload in _BYTES]
        self._pool += [forge.segments(algorithm, head, b64(b"{}")) for head in ("", "e", "e30=", "e31", "-_")]
        self._levels: tuple[Callable[[str], str], ...] = (
            self._text,
            self._text,
            self._segment,
            self._tail,
            self._swap,
            self._signature,
            self._signature,
            self._edge,
        )

    def __iter__(self) -> Iterator[str]:
        while True:
            chance = self._random.random()
            token = self._random.choice(self._good if chance < 0.5 else self._pool)
            if chance < 0.05 or chance > 0.95:
                yield token
                continue
            if chance < 0.1 and self.algorithm[:2] not in {"RS", "PS"}:  # these take long to sign
                token = self._signed_again(token)
            for _ in range(self._random.choice((1, 1, 1, 2, 3))):
                token = self._random.choice(self._levels)(token)
            yield token

    def _text(self, token: str) -> str:
        """Replace, remove or insert a character anywhere."""
        at, length = self._random.randrange(len(token) + 1), self._random.choice((0, 0, 1, 1, 1, 5))
        new = self._random.choice(ALPHABET) if self._random.random() < 0.6 else self._random.choice(_STRANGE)
        return token[:at] + new + token[at + length :]

    def _segment(self, token: str) -> str:
        """Remove, repeat or move a segment."""
        parts = token.split(".")
        at = self._random.randrange(len(parts))
        match self._random.randrange(4):
            case 0:
                del parts[at]
            case 1:
                parts.insert(at, parts[at])
            case 2:
                parts[at] = ""
            case _:
                self._random.shuffle(parts)
        return ".".join(parts)

    def _tail(self, token: str) -> str:
        """Change the last character of a segment, which has bits that no byte needs, or add padding."""
        parts = token.split(".")
        at = self._random.randrange(len(parts))
        if self._random.random() < 0.3:
            parts[at] += self._random.choice(("=", "==", "A", "AA", "AAA", "AAAA"))
        else:
            parts[at] = parts[at][:-1] + self._random.choice(ALPHABET)
        return ".".join(parts)

    def _swap(self, token: str) -> str:
        """Take a segment of another token."""
        parts, others = token.split("."), self._random.choice(self._pool).split(".")
        at = self._random.randrange(min(len(parts), len(others)))
        parts[at] = others[at]
        return ".".join(parts)

    def _signature(self, token: str) -> str:
        """Change the bytes of the signature and keep its encoding canonical."""
        data, _, encoded = token.rpartition(".")
        try:
            signature = bytearray(unb64(encoded))
        except ValueError:
            return token
        match self._random.randrange(4):
            case 0 if signature:
                signature[self._random.randrange(len(signature))] ^= 1 << self._random.randrange(8)
            case 1:
                signature = signature[: self._random.randrange(len(signature) + 1)]
            case 2:
                signature += self._random.randbytes(self._random.choice((1, 2, 32, 1100)))
            case _:
                signature = bytearray(self._random.randbytes(len(signature)))
        return f"{data}.{b64(bytes(signature))}"

    def _edge(self, token: str) -> str:
        """Put in a number at the edge of what is valid: the order, the prime, the modulus, zero."""
        data, _, encoded = token.rpartition(".")
        try:
            signature = unb64(encoded)
        except ValueError:
            return token
        size, changed = len(signature) // 2, bytes(len(signature))
        pick = self._random.choice
        if self.algorithm.kty == "EC":
            n, p = forge.ORDERS[self.algorithm], forge.FIELDS[self.algorithm]
            r, s = forge.halves(signature)
            edges = [0, 1, n - 1, n, n + 1, p, r, s, (n - s) % n, (n - r) % n, r + n, s + n]
            changed = b"".join((pick(edges) % 2**512).to_bytes(64)[-size:] for _ in range(2))
        elif self.algorithm.kty == "OKP":
            n, p, sign = forge.ED25519_ORDER, 2**255 - 19, 1 << 255
            s = int.from_bytes(signature[32:64], "little")
            edges = [0, 1, 2, p - 1, p, p + 1, sign - 1, sign, p | sign, n - 1, n, s, s + n, s + 2 * n]
            first = signature[:32] if pick((True, False)) else _little(pick(edges))
            changed = first + _little(pick(edges))
        elif self.algorithm.kty == "RSA":
            n, value = forge.rsa_native().public_key().public_numbers().n, int.from_bytes(signature)
            changed = (pick([0, 1, n - 1, n, n + 1, value + n, (n - value) % n]) % 2**2048).to_bytes(256)
        return f"{data}.{b64(changed)}"

    def _signed_again(self, token: str) -> str:
        """Change header and payload as text, and sign the result."""
        head, _, rest = token.partition(".")
        changed = self._text(f"{head}.{rest.partition('.')[0]}")
        try:
            data = changed.encode("ascii")
        except UnicodeEncodeError:
            return token
        return f"{changed}.{b64(forge.sign(self.algorithm, data))}"


def _little(value: int) -> bytes:
    return (value % 2**256).to_bytes(32, "little")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000, help="how many tokens")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    if compiled.core() is None:
        print("the compiled core is not installed: make core", file=sys.stderr)
        return 1
    supplies = [(pair(algorithm), iter(Tokens(algorithm, arguments.seed))) for algorithm in Algorithm]
    found: Counter[object] = Counter()
    start = time.monotonic()
    for number in range(arguments.count):
        keys, tokens = supplies[number % len(supplies)]
        ended = compare(keys, next(tokens), traced=number % 16 == 0)
        found["accepted" if ended[0] == "accepted" else ended[1]] += 1
        if number % 100_000 == 99_999:
            print(f"{number + 1} tokens, {time.monotonic() - start:.0f} s, {dict(found)}", flush=True)
    print(f"no difference in {arguments.count} tokens of seed {arguments.seed}: {dict(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
