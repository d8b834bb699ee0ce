"""Measure signing and verifying: this package, the primitives alone and other libraries, for every algorithm."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, TypeAlias

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hmac import HMAC

from benchmarks.fast import with_fast
from benchmarks.fixtures import expired, forged, grants, make_keys, signed, tokens
from benchmarks.measure import Times, applying, calling, race
from benchmarks.peers import peers
from moq_token import Algorithm, Claims

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.fixtures import Grant, Keys
    from benchmarks.measure import Contender, Pace
    from benchmarks.node import Node, NodeLibrary
    from benchmarks.peers import Peer
    from moq_token import Key

OURS, FAST, PRIMITIVE = "moq-token", "moq-token[fast]", "primitive"
_TOKEN_BYTES = 203  # the signed part of our tokens

TokenTimes: TypeAlias = "dict[Algorithm, dict[str, Times]]"
Halves: TypeAlias = "tuple[Key, Key]"
"""The private and the public key, or twice the same secret."""


def race_tokens(pace: Pace, node: Node, progress: Callable[[str], None]) -> TokenTimes:
    """Return the times of "sign" and "verify" for every algorithm."""
    times: TokenTimes = {}
    for algorithm in Algorithm:
        progress(algorithm)
        keys = make_keys(algorithm)
        ours, others, in_node = _ours(keys), peers(keys), node.prepare(keys)
        for name, (private, public) in ours.items():
            _examine(name, keys, partial(signed, private), public.verify)
        for name, peer in others.items():
            _examine(name, keys, peer.sign_grant, peer.verify)
        for library in in_node:
            _examine(library.name, keys, library.sign, library.verify)
        times[algorithm] = {
            "sign": race(_signing(keys, ours, others, in_node), grants, pace),
            "verify": race(_verifying(keys, ours, others, in_node), tokens(keys.private), pace),
        }
    return times


def _ours(keys: Keys) -> dict[str, Halves]:
    plain, fast = (keys.private, keys.public), with_fast(keys)
    return {OURS: plain} if fast is None else {OURS: plain, FAST: fast}


def _signing(
    keys: Keys, ours: dict[str, Halves], others: dict[str, Peer], in_node: list[NodeLibrary]
) -> dict[str, Contender]:
    return {
        PRIMITIVE: applying(*bare_signing(keys)),
        **{name: _ours_signing(private) for name, (private, _) in ours.items()},
        **{name: _peer_signing(peer) for name, peer in others.items()},
        **{library.name: library.signing for library in in_node},
    }


def _verifying(
    keys: Keys, ours: dict[str, Halves], others: dict[str, Peer], in_node: list[NodeLibrary]
) -> dict[str, Contender]:
    return {
        PRIMITIVE: applying(*bare_verifying(keys)),
        **{name: calling(public.verify) for name, (_, public) in ours.items()},
        **{name: calling(peer.verify) for name, peer in others.items()},
        **{library.name: library.verifying for library in in_node},
    }


def _ours_signing(key: Key) -> Contender:
    def run(items: Sequence[Grant]) -> float:
        sign = key.sign
        start = perf_counter()
        for root, put, get, exp, iat in items:
            sign(Claims(root, put, get, expires=exp, issued=iat))
        return (perf_counter() - start) / len(items)

    return run


def _peer_signing(peer: Peer) -> Contender:
    def run(items: Sequence[Grant]) -> float:
        sign = peer.sign
        start = perf_counter()
        for root, put, get, exp, iat in items:
            sign({"root": root, "put": [put], "get": [get], "exp": exp, "iat": iat})
        return (perf_counter() - start) / len(items)

    return run


def bare_signing(keys: Keys) -> tuple[Callable[..., object], Callable[[Grant], tuple[object, ...]]]:
    """Return a function that signs as many bytes as a token has, and a function that makes its arguments."""
    filling = b"-" * _TOKEN_BYTES

    def data(grant: Grant) -> bytes:
        return (grant[1].encode() + filling)[:_TOKEN_BYTES]

    if keys.algorithm.symmetric:
        prepared = _prepared_hmac(keys)

        def sign(data: bytes) -> bytes:
            mac = prepared.copy()
            mac.update(data)
            return mac.finalize()

        return sign, lambda grant: (data(grant),)
    parameters = _parameters(keys)
    return keys.native_private.sign, lambda grant: (data(grant), *parameters)


def bare_verifying(keys: Keys) -> tuple[Callable[..., object], Callable[[str], tuple[object, ...]]]:
    """Return a function that only verifies signatures, and a function that makes its arguments from a token."""
    if keys.algorithm.symmetric:
        prepared = _prepared_hmac(keys)

        def verify(signature: bytes, data: bytes) -> None:
            mac = prepared.copy()
            mac.update(data)
            mac.verify(signature)

        return verify, _signature_and_data
    parameters, der = _parameters(keys), keys.algorithm.kty == "EC"

    def arguments(token: str) -> tuple[object, ...]:
        signature, data = _signature_and_data(token)
        if der:
            half = len(signature) // 2
            signature = encode_dss_signature(int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))
        return signature, data, *parameters

    return keys.native_public.verify, arguments


def _signature_and_data(token: str) -> tuple[bytes, bytes]:
    data, _, signature = token.rpartition(".")
    return urlsafe_b64decode(signature + "=="), data.encode()


def _prepared_hmac(keys: Keys) -> HMAC:
    """Prepare the fastest HMAC there is: the key is hashed once, and each call works on a copy of that state."""
    return HMAC(keys.secret, _digest(keys))


def _digest(keys: Keys) -> hashes.HashAlgorithm:
    return {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[keys.algorithm[2:]]


def _parameters(keys: Keys) -> tuple[object, ...]:
    if keys.algorithm.kty == "OKP":
        return ()
    digest = _digest(keys)
    if keys.algorithm.kty == "EC":
        return (ec.ECDSA(digest),)
    if keys.algorithm.startswith("RS"):
        return padding.PKCS1v15(), digest
    return padding.PSS(padding.MGF1(digest), digest.digest_size), digest


def _examine(name: str, keys: Keys, sign: Callable[[Grant], object], verify: Callable[[str], object]) -> None:
    """Check that a library does the work that is measured."""
    (grant,) = grants(1)
    token = sign(grant)
    keys.public.verify(token.decode() if isinstance(token, bytes) else str(token))
    good = signed(keys.private, grant)
    verify(good)
    for bad in forged(good), expired(keys.private, good):
        try:
            verify(bad)
        except Exception:  # noqa: BLE001, S112 - each library has its own
            continue
        raise AssertionError(f"{name} accepts a forged or an expired token for {keys.algorithm}")
