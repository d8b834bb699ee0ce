"""Read JSON from other programs: bounded in size and depth, tolerant of unknown members, strict about known ones."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Generic, NoReturn, TypeAlias, TypeVar, get_args

import msgspec

from moq_token.errors import InvalidGrantError, InvalidRequestError, shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from inspect import Signature

MAX_BYTES = 256 * 1024
"""Bytes in one document. The request of a client that dials the longest URL a relay takes is far smaller."""
MAX_DEPTH = 127
"""Objects and lists within each other. The reference server has the same limit."""

MAX_UNSIGNED = 2**64 - 1
_MAX_DIGITS = len(str(MAX_UNSIGNED))  # also those of the least signed one, with its sign

# msgspec has no upper bound beyond 63 bits; who reads these compares them with MAX_UNSIGNED.
Unsigned: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
Signed: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]

_Names: TypeAlias = dict[str, "_Names"]
_S = TypeVar("_S", bound=msgspec.Struct)
_MISSING = re.compile(r"Object missing required field `(\w+)`(?: - at `\$\.(.+)`)?")
_WRONG = re.compile(r"Expected (.+?) - at `\$\.(.+)`")

encode: Callable[[object], bytes] = msgspec.json.encode


class Shown(msgspec.StructMeta):
    """Lets a struct declare ``__init__`` for type checkers and for ``help``: what callers write, not what is stored.

    It is not called: msgspec fills the members, and ``__post_init__`` converts them.
    """

    _declared: Callable[..., None]

    def __new__(  # noqa: D102
        mcs,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        **options: Any,  # noqa: ANN401 - those of msgspec
    ) -> Shown:
        declared = namespace.pop("__init__", None)
        made = super().__new__(mcs, name, bases, namespace, **options)
        if declared is not None:
            made._declared = declared
        return made

    @property
    def __signature__(self) -> Signature:
        from inspect import Signature, signature  # only needed to show help

        found = signature(self._declared)
        return Signature(list(found.parameters.values())[1:])


class Reader(Generic[_S]):
    """Reads documents of one kind, each an object.

    Parameters
    ----------
    struct
        What to read a document as.
    error
        What to raise for a document that cannot be read. Its ``reason`` is ``too-large``, ``too-deep``, ``bad-json``,
        ``duplicate-member``, ``missing-member`` or ``bad-member``; messages name members, never their values.
    repair
        Is given the members of a document that does not fit, and may remove those that may be left out.

    """

    def __init__(
        self,
        struct: type[_S],
        error: type[InvalidRequestError | InvalidGrantError],
        repair: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self._struct, self._error, self._repair = struct, error, repair
        self._names = _names(struct)
        self._decode = msgspec.json.Decoder(struct).decode

    def __call__(self, document: bytes | str) -> _S:
        """Read one document."""
        if not isinstance(document, str | bytes | bytearray | memoryview):
            raise TypeError(f"a document must be str or bytes, not {type(document).__name__}")
        body = document.encode(errors="surrogatepass") if isinstance(document, str) else bytes(document)
        if len(body) > MAX_BYTES:
            self._fail(f"it has {len(body)} bytes, the limit is {MAX_BYTES}", "too-large")
        try:
            read = self._decode(body)
            # Equal bytes prove that the document has nothing but these members, once each. Relays write it that way.
            if encode(read) == body:
                return read
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            pass  # the slower reading below tells what is wrong, if anything is
        return self._convert(self._members(body))

    def _members(self, body: bytes) -> dict[str, Any]:
        try:
            value = json.loads(
                body.decode(), object_pairs_hook=_members, parse_constant=_no_constant, parse_int=_integer
            )
        except RecursionError:
            self._fail(f"it is nested deeper than {MAX_DEPTH} levels", "too-deep")
        except UnicodeError:
            self._fail("it is not valid UTF-8", "bad-json")
        except ValueError as error:
            self._fail(f"it is not valid JSON ({_bare_message(error)})", "bad-json")
        if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
            self._fail(f"it is nested deeper than {MAX_DEPTH} levels", "too-deep")
        if not isinstance(value, dict):
            self._fail("expected a JSON object", "bad-member")
        self._refuse_repeated(value, self._names)
        return value

    def _refuse_repeated(self, members: dict[str, Any], names: _Names) -> None:
        """Refuse known members that occur twice, at each level of the struct."""
        for name, inner in names.items():
            if isinstance(members, _Repeating) and name in members.repeated:
                self._fail(f"the member `{name}` occurs more than once", "duplicate-member")
            if inner and isinstance(members.get(name), dict):
                self._refuse_repeated(members[name], inner)

    def _convert(self, members: dict[str, Any]) -> _S:
        if self._repair is not None:
            self._repair(members)
        try:
            read = msgspec.convert(members, self._struct)
            encode(read)
        except msgspec.ValidationError as error:
            if missing := _MISSING.fullmatch(str(error)):
                self._fail(f"missing member `{'.'.join(filter(None, (missing[2], missing[1])))}`", "missing-member")
            wrong = _WRONG.fullmatch(str(error))
            expected, name = (wrong[1].replace("`", ""), wrong[2]) if wrong else ("another type", "?")
            self._fail(f"`{name}`: expected {expected}", "bad-member")
        except UnicodeError:
            self._fail("its text is not valid Unicode (it has a lone surrogate)", "bad-json")
        return read

    def _fail(self, message: str, reason: str) -> NoReturn:
        raise self._error(f"invalid {self._struct.__name__.strip('_').lower()}: {message}", reason=reason)


def _names(struct: type[msgspec.Struct]) -> _Names:
    """Return the names of the members of a struct, with those of the structs in it."""
    names: _Names = {}
    for field in msgspec.structs.fields(struct):
        kinds = (field.type, *get_args(field.type))
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, msgspec.Struct)), None)
        names[field.encode_name] = _names(inner) if inner else {}
    return names


class _Repeating(dict[str, Any]):
    """The members of an object in which some occur more than once."""

    repeated: frozenset[str] = frozenset()


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    repeating, seen = _Repeating(members), set[str]()
    repeating.repeated = frozenset(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
    return repeating


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _integer(text: str) -> float:
    """Read an integer as the originals do: ``-0`` and one of more than 64 bits are floating-point numbers."""
    return float(text) if text == "-0" or len(text) > _MAX_DIGITS else int(text)


def _bare_message(error: ValueError) -> str:
    """Return what the parser says, without the document that its error carries."""
    return (
        shown(error.msg)[1:-1] + f" at character {error.pos}"
        if isinstance(error, json.JSONDecodeError)
        else "bad number"
    )


def _depth(value: object) -> int:
    """Count the levels of objects and lists."""
    depth, level = 0, [value]
    while level := [outer for outer in level if isinstance(outer, dict | list)]:
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
        depth += 1
    return depth
