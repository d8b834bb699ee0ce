"""Check the arguments of the classes of this package, and show their types in the signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec.structs import replace

from moq_token.errors import shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from inspect import Signature

_Struct = TypeVar("_Struct", bound=msgspec.Struct)

# What the claims on the wire, and those of other token libraries, are called here.
_NAMES_ON_THE_WIRE = {"put": "publish", "get": "subscribe", "exp": "expires", "iat": "issued"}
_NAMES_ON_THE_WIRE |= {"nbf": "not_before", "sub": "subject", "jti": "id"}


class Checked(msgspec.StructMeta):
    """Base of the metaclasses that check the arguments of a public class in their ``__call__``.

    The check is not in ``__post_init__``, because that would check every token again: the decoder makes instances
    without this call, from JSON whose types it has checked.
    """

    @property
    def __signature__(self) -> Signature:
        """The signature of the check, instead of the types that msgspec reads."""
        from inspect import Parameter, signature  # only needed to show help

        found = signature(type(self).__call__)
        _, *parameters = found.parameters.values()
        return found.replace(parameters=[each for each in parameters if each.kind is not Parameter.VAR_KEYWORD])


def unexpected(cls: Checked, arguments: Mapping[str, object]) -> TypeError:
    """Return the error for keyword arguments that a class does not have."""
    names = list(cls.__signature__.parameters)
    name = next(iter(arguments))
    ours = _NAMES_ON_THE_WIRE.get(name)
    hint = f"use {ours}" if ours in names else f"expected {', '.join(names)}"
    return TypeError(f"{cls.__name__}() got an unexpected keyword argument {shown(name)}: {hint}")


def changed(instance: _Struct, changes: Mapping[str, object]) -> _Struct:
    """Return a copy with other attributes, checked by the constructor.

    The attributes that stay are not checked again: what was read can be more than callers may pass.
    """
    checked = type(instance)(**changes)
    return replace(instance, **{name: getattr(checked, name) for name in changes})


def plain_text(text: object) -> str:
    """Turn an instance of a subclass of ``str``, which msgspec does not know, into a plain one."""
    if not isinstance(text, str):
        raise TypeError(f"a path must be a str, not {type(text).__name__}")
    return "".join(text)
