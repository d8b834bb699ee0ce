"""The settings of ``serve``, and whether they make sense together. Nothing is read or opened here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from moq_token.errors import ConfigError, shown
from moq_token.server.caps import Cap, CapKind
from moq_token.server.listen import TcpAddress, UnixAddress, parse_address
from moq_token.server.nudges import parse_relays
from moq_token.server.policy import rule
from moq_token.server.share.url import parse_store_url
from moq_token.server.spread import MAX_SPREAD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moq_token.server.app import Contract
    from moq_token.server.caps import Caps
    from moq_token.server.listen import Address
    from moq_token.server.nudges import Relay
    from moq_token.server.share.url import StoreUrl

DEFAULT_LISTEN: Final = "127.0.0.1:4440"

RULES: Final = ("public_publish", "public_subscribe", "mtls_publish", "mtls_subscribe")
# Settings of the built-in policy, which a custom policy does not read.
_POLICY = (
    *("key", "public_publish", "public_subscribe", "mtls_publish", "mtls_subscribe"),
    *("tier", "expires", "lenient", "spread"),
)
# What takes effect when the process starts and not later.
FIXED: Final = (
    *("listen", "listen_public", "policy", "contract", "publish_keys", "share_secrets"),
    *("limit_token", "limit_remote", "limit_subject", "kick_oldest"),
    *("tls_cert", "tls_key", "tls_client_ca", "admin", "state", "log"),
    *("share", "require_share", "share_secret_file"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of ``serve``, under the names of its flags. Times are in seconds.

    ``check()`` says whether they make sense together. ``origins`` has where each that is set comes from, as messages
    name it; ``warnings`` what is probably not meant.
    """

    listen: str = DEFAULT_LISTEN
    listen_public: bool = False
    key: str | None = field(default=None, repr=False)
    key_dir: str | None = field(default=None, repr=False)
    public_publish: tuple[str, ...] = ()
    public_subscribe: tuple[str, ...] = ()
    mtls_publish: tuple[str, ...] = ()
    mtls_subscribe: tuple[str, ...] = ()
    tier: str | None = None
    expires: int | None = None
    revalidate: int | None = None
    limit_token: int | None = None
    limit_remote: int | None = None
    limit_subject: int | None = None
    kick_oldest: tuple[str, ...] = ()
    policy: str | None = None
    contract: Contract = "both"
    publish_keys: bool = False
    share_secrets: bool = False
    lenient: bool = False
    spread: float = MAX_SPREAD
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_client_ca: str | None = None
    secret_file: str | None = None
    admin: str | None = None
    state: str | None = None
    relay: tuple[str, ...] = ()
    share: str | None = field(default=None, repr=False)
    require_share: bool = False
    share_secret_file: str | None = None
    log: str = "text"
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    warnings: tuple[str, ...] = field(default=(), compare=False)

    @property
    def address(self) -> Address:
        """Where to listen. Raises ``ConfigError``."""
        return self._address("listen", self.listen)

    @property
    def admin_address(self) -> Address | None:
        """Where operators are answered. Raises ``ConfigError``."""
        return None if self.admin is None else self._address("admin", self.admin)

    @property
    def relays(self) -> dict[str, Relay]:
        """The internal listeners of relays, by node. Raises ``ConfigError``."""
        try:
            return parse_relays(self.relay)
        except ConfigError as error:
            raise ConfigError(f"`{self.label('relay')}`: {error}") from None

    @property
    def store(self) -> StoreUrl | None:
        """The store that is shared through. Raises ``ConfigError``."""
        try:
            return None if self.share is None else parse_store_url(self.share)
        except ConfigError as error:
            raise ConfigError(f"`{self.label('share')}`: {error}") from None

    @property
    def caps(self) -> Caps:
        """The caps of sessions."""
        limits = {kind: getattr(self, f"limit_{kind}") for kind in CapKind}
        return {
            kind: Cap(limit, kick_oldest=kind in self.kick_oldest)
            for kind, limit in limits.items()
            if limit is not None
        }

    def label(self, name: str) -> str:
        """Return what the operator calls a setting: the flag, the variable or the member of the file."""
        return self.origins.get(name, f"--{name.replace('_', '-')}")

    def _beside(self, name: str, given: str) -> str:
        """Return what the operator would call a setting at the place where another one is given."""
        label = self.label(given)
        if name in self.origins or label.startswith("--"):
            return self.label(name)
        return label.removesuffix(given) + name if label.endswith(given) else f"{label[: -len(given)]}{name.upper()}"

    def check(self) -> None:
        """Raise ``ConfigError`` for the first setting that contradicts another. Nothing is read or opened."""
        address = self.address
        self._check_exposure(address)
        for name in ("revalidate", "expires"):
            if getattr(self, name) == 0:
                why = (
                    "relays would ask again without a pause" if name == "revalidate" else "no session would be admitted"
                )
                raise ConfigError(f"`{self.label(name)}` must be longer than 0s: otherwise {why}")
        if self.policy is None:
            self._check_policy()
        else:
            self._check_own_policy()
        self._check_doors(address)

    def _check_doors(self, address: Address) -> None:
        for kind in self.kick_oldest:
            if getattr(self, f"limit_{kind}") is None:
                raise ConfigError(
                    f"`{self.label('kick_oldest')}` {kind} needs `{self._beside(f'limit_{kind}', 'kick_oldest')}`, the "
                    "limit that it applies to"
                )
        self._check_tls()
        if self.share_secrets and not _is_local(address):
            raise ConfigError(
                f"`{self.label('share_secrets')}` gives secrets to any client: listen on loopback or on a unix socket"
            )
        if self.publish_keys and (self.key_dir is None or "://" in self.key_dir):
            other = self._beside("key_dir", "publish_keys")
            raise ConfigError(f"`{self.label('publish_keys')}` needs `{other}` with a local directory")
        _ = self.relays
        self._check_share()
        admin = self.admin_address
        if admin == address and not (isinstance(address, TcpAddress) and address.port == 0):
            raise ConfigError(
                f"`{self.label('admin')}` and `{self._beside('listen', 'admin')}` are the same address: use two"
            )
        if admin is not None and not _is_local(admin):
            raise ConfigError(
                f"`{self.label('admin')}` {admin} must be a loopback address or unix:PATH: it has no authentication"
            )

    def _check_share(self) -> None:
        if self.store is None:
            for name in ("require_share", "share_secret_file"):
                if getattr(self, name):
                    other = self._beside("share", name)
                    raise ConfigError(f"`{self.label(name)}` needs `{other}`, the store that is shared through")
        elif self.share_secret_file is None:
            other = self._beside("share_secret_file", "share")
            raise ConfigError(f"`{self.label('share')}` needs `{other}`, a secret that all servers of the share have")

    def _check_exposure(self, address: Address) -> None:
        if _is_local(address) or self.listen_public or self.secret_file is not None or self.tls_client_ca is not None:
            return
        raise ConfigError(
            f"`{self.label('listen')}` {address} is not a loopback address, so that others can ask for decisions: set "
            "--tls-client-ca or --secret-file, or --listen-public to allow everybody"
        )

    def _check_policy(self) -> None:
        if self.revalidate is not None and self.expires is None:
            other = self._beside("expires", "revalidate")
            raise ConfigError(
                f"`{self.label('revalidate')}` needs `{other}`, so that sessions end when nobody answers re-checks"
            )
        for kind in self.caps:
            if self.revalidate is None:
                name = f"limit_{kind}"
                raise ConfigError(
                    f"`{self.label(name)}` needs `{self._beside('revalidate', name)}`, which frees the places of "
                    "sessions whose relay has died"
                )
        for name in RULES:
            for text in getattr(self, name):
                rule(self.label(name), text)

    def _check_own_policy(self) -> None:
        label = self.label("policy")
        for name in _POLICY if self.publish_keys else ("key_dir", *_POLICY):
            if name in self.origins:
                raise ConfigError(f"`{label}` replaces the built-in policy: remove `{self.label(name)}`")
        module, _, function = (self.policy or "").partition(":")
        if not all(part.isidentifier() for part in (*module.split("."), *function.split("."))):
            raise ConfigError(
                f"`{label}` must be module:function, such as policy:decide, got {shown(self.policy or '')}"
            )

    def _check_tls(self) -> None:
        given = [name for name in ("tls_cert", "tls_key", "tls_client_ca") if getattr(self, name) is not None]
        for name in ("tls_cert", "tls_key"):
            if given and name not in given:
                raise ConfigError(f"`{self.label(given[0])}` needs `{self._beside(name, given[0])}` too")
        if given and isinstance(self.address, UnixAddress):
            raise ConfigError(f"`{self.label(given[0])}`: relays use no TLS on a unix socket: remove it")

    def _address(self, name: str, text: str) -> Address:
        try:
            return parse_address(text)
        except ConfigError as error:
            raise ConfigError(f"`{self.label(name)}`: {error}") from None


def _is_local(address: Address) -> bool:
    return not isinstance(address, TcpAddress) or address.is_loopback
