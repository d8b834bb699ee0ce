"""Run a small MoQ relay: clients watch what other clients publish, as far as their tokens allow.

    pip install "moq-token[moq,http]"
    moq-token generate --algorithm EdDSA --out private.jwk --public public.jwk
    python examples/relay.py relay.toml

relay.toml is the configuration of a moq-relay, before 0.15 or from 0.15 on. Environment variables MOQ_AUTH_… override
it, as they do for moq-relay. Before 0.15, the relay reads `[auth]`, `[client.tls]`, and these settings of `[server]`:

    [server]
    bind = "localhost:4443"
    [server.tls]
    generate = ["localhost"]  # or cert = ["cert.pem"], key = ["key.pem"]
    [auth]
    key = "public.jwk"

From 0.15 on, it reads `[auth]`, `[connect.tls]`, and the same settings of `[listen]`. An auth server decides, such as
`moq-token serve --key public.jwk`:

    [listen]
    bind = "localhost:4443"
    [listen.tls]
    generate = ["localhost"]
    [auth]
    url = "http://127.0.0.1:4440"

The extra `http` is needed only for an auth server, and for keys at URLs. For what the relay enforces, see
``moq_token.integrations.moq``.
"""

import asyncio
import logging
import signal
import sys
import tomllib
import warnings
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, cast

import moq

from moq_token import Error
from moq_token.auth import AuthConfig, Authenticator, ConfigWarning, RemoteAuthenticator, RemoteConfig, load_config
from moq_token.integrations.moq import guard

# The type stubs of moq-rs do not show that its error class is an exception.
MoqError = cast("type[Exception]", moq.Error)


def main(path: str) -> None:
    warnings.simplefilter("ignore", ConfigWarning)  # they are shown in the next lines
    config = load_config(path)
    for warning in config.warnings:
        say(f"warning: {warning}")
    document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    asyncio.run(serve(config, document.get("listen", document.get("server", {}))))


async def serve(config: AuthConfig | RemoteConfig, table: dict[str, Any]) -> None:
    this = cast("asyncio.Task[None]", asyncio.current_task())
    if sys.platform != "win32":  # a clean shutdown closes the sessions of the clients
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    tls = {name: texts(value) for name, value in table.get("tls", {}).items() if name in ("cert", "key", "generate")}
    bind = table.get("bind", table.get("listen", "localhost:4443"))
    async with (
        authenticator_of(config) as authenticator,
        moq.Server(
            bind,
            tls_cert=tls.get("cert", ()),
            tls_key=tls.get("key", ()),
            tls_generate=tls.get("generate", ()),
        ) as server,
    ):
        say(f"listening on https://localhost:{server.local_addr.rpartition(':')[2]}")
        say(f"certificate {server.cert_fingerprints()[0]}")
        async with aclosing(guard(server, authenticator)) as sessions:
            async for _ in sessions:
                pass  # the guard serves the sessions, and logs who comes and goes


def authenticator_of(config: AuthConfig | RemoteConfig) -> Authenticator | RemoteAuthenticator:
    return RemoteAuthenticator(config) if isinstance(config, RemoteConfig) else Authenticator(config)


def texts(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
    if len(sys.argv) != 2:
        sys.exit("usage: relay.py relay.toml")
    try:
        with suppress(KeyboardInterrupt, asyncio.CancelledError):
            main(sys.argv[1])
    except (Error, MoqError, OSError) as error:
        sys.exit(f"error: {error}")
