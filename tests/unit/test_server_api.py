"""The JSON of the admin API: what of it must not be printed."""

from __future__ import annotations

from moq_token.server.api import BanRequest


def test_a_ban_of_a_token_does_not_print_it() -> None:
    asked = BanRequest(token="eyJ.secret.token")
    assert "secret" not in f"{asked!r} {asked} {asked.__rich_repr__()}"
