"""One key in many threads at once, with and without a global lock."""

from __future__ import annotations

import sys
import sysconfig
import threading
from typing import TYPE_CHECKING

import pytest

from moq_token import Algorithm, Claims, InvalidSignatureError, Key, KeySet, Scope, compiled
from tests import forge
from tests.forge import NOW

if TYPE_CHECKING:
    from collections.abc import Callable

THREADS = 8


def at_once(task: Callable[[int], None]) -> None:
    """Run a task in several threads that start together, switching as often as the interpreter can."""
    barrier, failures = threading.Barrier(THREADS), []

    def run(number: int) -> None:
        try:
            barrier.wait()
            task(number)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert failures == []


def use(key: Key, verifier: Key, number: int, rounds: int) -> None:
    """Sign and verify claims, long and short, that no other thread signs."""
    for count in range(rounds):
        claims = Claims("rooms", f"{number}-{count}", ["x" * 5000] if count % 2 else "", expires=NOW)
        text = key.sign(claims)
        assert verifier.verify(text, now=NOW - 1) == claims
        data, _, signature = text.rpartition(".")
        try:
            verifier.verify(f"{data}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}")
        except InvalidSignatureError:
            continue
        raise AssertionError("a wrong signature was accepted")


@pytest.mark.parametrize("algorithm", Algorithm)
def test_one_key(algorithm: Algorithm) -> None:
    key = forge.load(forge.jwk(algorithm)).with_scope(Scope("rooms", "", ""))
    verifier = key if algorithm.symmetric else key.to_public()
    rounds = 10 if algorithm.kty == "RSA" else 40
    at_once(lambda number: use(key, verifier, number, rounds))


def test_one_set_of_all() -> None:
    keys = KeySet(forge.key(algorithm).with_kid(algorithm.value) for algorithm in Algorithm)
    texts = [key.sign(Claims("", key.algorithm)) for key in keys]

    def task(number: int) -> None:
        for _ in range(5):
            for shift in range(len(texts)):
                place = (number + shift) % len(texts)
                assert keys.verify(texts[place]).publish == (keys.keys[place].algorithm,)

    at_once(task)


def test_loading_and_first_use() -> None:
    """A thread never sees a lazy import or a prepared key that is only half ready."""

    def task(number: int) -> None:
        for algorithm in Algorithm:
            key = forge.load(forge.jwk(algorithm))
            use(key, key, number, 1)
            assert key == forge.key(algorithm)
            assert hash(key) == hash(forge.key(algorithm))

    at_once(task)


@pytest.mark.skipif(compiled.core() is None, reason="the compiled core is not installed")
@pytest.mark.parametrize("algorithm", forge.ASYMMETRIC)
def test_the_core_releases_the_global_lock(algorithm: Algorithm) -> None:
    """Another thread gets its turn only if a call gives it one, because no thread is interrupted meanwhile."""
    key, text = forge.load(forge.jwk(algorithm)), forge.token(algorithm)
    claims = key.verify(text, now=NOW)
    calls: tuple[Callable[[], object], ...] = (lambda: key.sign(claims), lambda: key.verify(text, now=NOW))
    for call in calls:
        waiting, gate, ran = threading.Event(), threading.Lock(), threading.Event()

        def other(waiting: threading.Event, gate: threading.Lock, ran: threading.Event) -> None:
            waiting.set()
            with gate:
                ran.set()

        interval = sys.getswitchinterval()
        gate.acquire()
        thread = threading.Thread(target=other, args=(waiting, gate, ran))
        thread.start()
        waiting.wait()
        sys.setswitchinterval(100)
        try:
            gate.release()
            while_calling = any(call() and ran.is_set() for _ in range(2000))
        finally:
            sys.setswitchinterval(interval)
            thread.join()
        assert while_calling


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this interpreter has a global lock")
def test_there_is_no_global_lock() -> None:
    """Importing the package does not enable the global lock again, so the tests above run without it."""
    is_enabled: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
    assert not is_enabled()
