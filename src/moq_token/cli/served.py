"""Describe what an auth server with given settings does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from moq_token.auth.check import check_served
from moq_token.cli import keyring, output, times
from moq_token.errors import Error
from moq_token.key import Key
from moq_token.pattern import Pattern
from moq_token.server.listen import TcpAddress, UnixAddress
from moq_token.sources.urls import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from moq_token.auth.check import FileFinding
    from moq_token.server.listen import Address
    from moq_token.server.run import Service
    from moq_token.server.settings import Settings
    from moq_token.server.share.url import StoreUrl

_CREDENTIALS = "USER:PASSWORD@"
_MAX_KEYS = 100
_MAX_RELAYS = 10
_MAX_FINDINGS = 10


def table(lines: Iterable[tuple[str, str]]) -> str:
    """Write lines with their labels in a column."""
    return "\n".join(f"{label:<12}{output.printable(text)}" for label, text in lines)


def lines(service: Service, address: Address, admin: Address | None) -> Iterator[tuple[str, str]]:
    """Say who is admitted, who may ask, and what a relay needs to ask at this address."""
    settings = service.settings
    if settings.policy is not None:
        yield "policy", f"{settings.policy} decides about every session"
    else:
        yield "tokens", _tokens(settings)
        yield "public", _public(settings)
        if settings.mtls_publish or settings.mtls_subscribe:
            yield "mtls", f"a client certificate may {_roles(settings.mtls_publish, settings.mtls_subscribe)}"
        if settings.expires is not None:
            again = "" if settings.revalidate is None else f"; relays ask again every {times.span(settings.revalidate)}"
            yield "sessions", f"end with their token, or after {times.span(settings.expires)}{again}"
    if settings.caps:
        yield (
            "limits",
            "; ".join(
                f"{cap.limit} per {kind}{', the oldest is ended' if cap.kick_oldest else ''}"
                for kind, cap in settings.caps.items()
            ),
        )
    if settings.store is not None:
        alone = "no new session is admitted" if settings.require_share else "this server decides by itself"
        yield "share", f"caps, bans and sessions through {settings.store}; without it {alone}"
    yield "may ask", _who(settings, address)
    if settings.contract != "get":
        yield "relay 0.15+", f"moq-relay --auth-url {_url(settings, address)}"
    if service.is_for_first and isinstance(address, TcpAddress):
        yield "relay 0.14", f'[auth] auth_api = "{_url(settings, address)}"'
    if settings.publish_keys:
        yield "keys", "/keys/{kid}.jwk and /.well-known/jwks.json, public halves only"
    if admin is not None:
        yield "operators", f"{admin}: bans, sessions, /metrics, /healthz, /readyz, and a page"
        yield "bans", _bans(settings)


def _bans(settings: Settings) -> str:
    kept = "lost at a restart (see --state)" if settings.state is None else f"kept in {output.place(settings.state)}"
    if not settings.relay:
        return f"{kept}; sessions end when their relay asks again (see --relay)"
    nodes = [relay.node or "(no name)" for relay in list(settings.relays.values())[:_MAX_RELAYS]]
    more = "" if len(settings.relay) <= _MAX_RELAYS else f" and {len(settings.relay) - _MAX_RELAYS} more"
    return f"{kept}; sessions end at once on {', '.join(nodes)}{more}"


def findings(settings: Settings) -> Iterator[FileFinding]:
    """Read the local keys, and say what is wrong with them. Until that is fixed, tokens of such a key are refused."""
    name = "key" if settings.key_dir is None else "key_dir"
    place = getattr(settings, name)
    if place is not None:
        is_directory = name == "key_dir"
        yield from check_served(settings.label(name), place, directory=is_directory, lenient=settings.lenient)


def key_notes(settings: Settings) -> list[str]:
    """Return the findings about keys as notes, the first few of many."""
    found = list(findings(settings))
    more = len(found) - _MAX_FINDINGS
    told = [
        f"{finding}; until this is fixed, its tokens are refused" if finding.fatal else str(finding)
        for finding in found
    ]
    return [*told[:_MAX_FINDINGS], *([f"and {more} more about keys"] if more > 0 else [])]


def notes(service: Service) -> Iterator[str]:
    """Return notes on likely mistakes, and on what relay 0.14 cannot express."""
    settings = service.settings
    yield from settings.warnings
    if settings.admin is not None and service.metrics is None:
        yield 'there are no metrics without the extra `metrics`: pip install "moq-token[metrics]"'
    address = settings.address
    if isinstance(address, TcpAddress) and not address.is_loopback and settings.tls_cert is None:
        yield "relays from 0.15 on refuse plain http to another machine: add --tls-cert and --tls-key"
        if settings.secret_file is not None:
            yield "without TLS the shared secret can be read on the network"
    if settings.store is not None:
        yield from _of_share(settings, settings.store)
    if service.is_for_first and settings.policy is None:
        yield from _not_for_first(settings, address)


def _of_share(settings: Settings, store: StoreUrl) -> Iterator[str]:
    if store.password is not None and settings.label("share") == "--share":
        yield "the password in --share can be seen in the list of processes: set MOQ_TOKEN_SERVE_SHARE instead"
    if not store.tls and any(not is_loopback(host) for host, _ in store.hosts):
        yield "the connection to the share is not encrypted: use rediss:// outside of a private network"


def _not_for_first(settings: Settings, address: Address) -> Iterator[str]:
    if isinstance(address, UnixAddress):
        if settings.contract == "get":
            yield "relay 0.14 cannot ask at a unix socket: listen on a loopback address"
        return
    for label, rules in (("publishing", settings.public_publish), ("subscribing", settings.public_subscribe)):
        others = [text for text in rules if not Pattern(text).is_subtree]
        if others:
            yield f"relay 0.14 knows subtrees only: not public there for {label}: {', '.join(others)}"
    mtls = (settings.mtls_publish, settings.mtls_subscribe)
    if any(mtls) and not all("**" in rules for rules in mtls):
        yield "relay 0.14 gives a client certificate everything: it is refused there where these rules grant less"
    if not settings.share_secrets and _has_secret(settings):
        yield "relay 0.14 cannot verify HMAC tokens (HS256) without the secret: use --share-secrets, or EdDSA keys"


def _has_secret(settings: Settings) -> bool:
    """Whether one of the local keys is for HMAC."""
    place = settings.key if settings.key_dir is None else settings.key_dir
    if place is None or "://" in place:
        return False
    try:
        names = keyring.KeyDirectory(place).files() if os.path.isdir(place) else [place]
    except OSError:
        return False
    for name in names[:_MAX_KEYS]:
        try:
            if Key.from_file(name).algorithm.symmetric:
                return True
        except (Error, OSError):
            continue
    return False


def _tokens(settings: Settings) -> str:
    lenient = ", as relay 0.14 reads them" if settings.lenient else ""
    if settings.key_dir is not None:
        place = output.place(settings.key_dir).rstrip("/")
        return f"verified with {place}/{{kid}}.jwk, read when a token names it{lenient}"
    if settings.key is not None:
        return f"verified with {output.place(settings.key)}{lenient}"
    return "all refused: there is no key to verify them with"


def _public(settings: Settings) -> str:
    if not settings.public_publish and not settings.public_subscribe:
        return "clients without a token are refused"
    return f"without a token anybody may {_roles(settings.public_publish, settings.public_subscribe)}"


def _roles(publish: tuple[str, ...], subscribe: tuple[str, ...]) -> str:
    return f"publish {output.listed(publish) or 'nothing'} and subscribe to {output.listed(subscribe) or 'nothing'}"


def _who(settings: Settings, address: Address) -> str:
    needs = []
    if settings.tls_client_ca is not None:
        needs.append(f"a certificate of {output.place(settings.tls_client_ca)}")
    if settings.secret_file is not None:
        needs.append("the shared secret")
    with_what = f" with {' and '.join(needs)}" if needs else ""
    if isinstance(address, UnixAddress):
        return f"programs of this user on this machine{with_what}"
    if address.is_loopback:
        return f"programs on this machine{with_what}"
    return f"other machines{with_what}" if needs else "everybody who reaches the address, without authentication"


def _url(settings: Settings, address: Address) -> str:
    if isinstance(address, UnixAddress):
        return f"unix://{os.path.abspath(address.path)}"
    scheme = "http" if settings.tls_cert is None else "https"
    credentials = "" if settings.secret_file is None else _CREDENTIALS
    place = f"HOST:{address.port}" if address.host in {"0.0.0.0", "::"} else str(address)  # noqa: S104 - compared
    return f"{scheme}://{credentials}{place}/"
