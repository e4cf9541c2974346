"""``Headers``: the fields of a request or response (RFC 9110 section 5; the Fetch standard's ``Headers``).

Names are matched without regard to case, a name may occur more than once, and the order is kept. Everything that goes
in is checked here, so what is in a ``Headers`` can always be put on the wire.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ..types import HeadersInit as HeadersInit

# RFC 9110 section 5.6.2.
TOKEN_CHARACTERS = frozenset("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


def is_token(text: str) -> bool:
    """True for a non-empty RFC 9110 token: what a header name, a method or a subprotocol is made of."""
    return bool(text) and TOKEN_CHARACTERS.issuperset(text)


def check_name(name: object, kind: str = "header") -> str:
    """``name`` when it is a token, as the name of a ``kind`` must be; an error that shows it otherwise."""
    if not isinstance(name, str):
        raise TypeError(f"a {kind} name must be a str, got {type(name).__name__}")
    if not is_token(name):
        raise ValueError(f"invalid {kind} name {name!r}: only letters, digits and !#$%&'*+-.^_`|~ may be in it")
    return name


def check_value(name: str, value: object) -> str:
    """``value`` without surrounding white space when it can be sent; an error that names the field otherwise."""
    if not isinstance(value, str):
        raise TypeError(f"the value of header {name!r} must be a str, got {type(value).__name__}")
    value = value.strip(" \t")
    if "\r" in value or "\n" in value or "\0" in value:
        raise ValueError(f"the value of header {name!r} contains CR, LF or NUL: {value!r}")
    if not value.isascii() and max(value) > "\xff":
        raise ValueError(f"the value of header {name!r} has a character outside latin-1: {value!r}")
    return value


class Headers:
    """Header fields: case-insensitive, multi-valued, in order.

    ``len()``, ``in``, iteration and ``[name]`` go by name, as in a dict; ``headers[name] = value`` is ``set``.

    Args:
        init: another ``Headers``, a mapping, or pairs of name and value; nothing for none.

    Raises:
        TypeError: a name or value that is no ``str``.
        ValueError: a name that is no token, or a value with CR, LF, NUL or a character outside latin-1. White space
            around a value is removed.

    Threads: not locked; one thread at a time.

    Bun: Headers, of the Fetch standard. RFC 9110 section 5.
    """

    __slots__ = ("_pairs",)

    if TYPE_CHECKING:  # Bun's spellings, which _bun_names puts on the class

        def getAll(self, name: str) -> list[str]: ...
        def getSetCookie(self) -> list[str]: ...

    def __init__(self, init: HeadersInit | None = None) -> None:
        self._pairs: list[tuple[str, str]] = []
        if init is None:
            return
        if isinstance(init, Headers):
            self._pairs.extend(init._pairs)
            return
        if isinstance(init, (str, bytes, bytearray)):
            raise TypeError(f"headers must be a dict, pairs or Headers, got {type(init).__name__}")
        items = getattr(init, "items", None)
        pairs: Any = items() if callable(items) else init
        try:
            iterator = iter(pairs)
        except TypeError:
            raise TypeError(f"headers must be a dict, pairs or Headers, got {type(init).__name__}") from None
        for pair in iterator:
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise TypeError(f"headers must be made of pairs (name, value), got {pair!r}")
            self.append(pair[0], pair[1])

    def append(self, name: str, value: str) -> None:
        """Add a field at the end; one of the same name stays.

        Args:
            name: a token.
            value: latin-1 text; white space around it is removed.

        Raises:
            TypeError: name or value is no ``str``.
            ValueError: one of them cannot be sent.

        Bun: Headers.append.
        """
        name = check_name(name)
        self._pairs.append((name, check_value(name, value)))

    def set(self, name: str, value: str) -> None:
        """Make a value the only one of its name. The first field of that name keeps its place.

        Args:
            name: a token.
            value: latin-1 text; white space around it is removed.

        Raises:
            TypeError: name or value is no ``str``.
            ValueError: one of them cannot be sent.

        Bun: Headers.set.
        """
        name = check_name(name)
        value = check_value(name, value)
        key = name.lower()
        fields = [field.lower() for field, _ in self._pairs]
        place = fields.index(key) if key in fields else len(fields)
        self.delete(name)
        self._pairs.insert(place, (name, value))

    def delete(self, name: str) -> None:
        """Remove every field of a name; nothing happens when there is none.

        Args:
            name: a token, in any case.

        Raises:
            TypeError: name is no ``str``.
            ValueError: name is no token.

        Bun: Headers.delete.
        """
        key = check_name(name).lower()
        self._pairs = [pair for pair in self._pairs if pair[0].lower() != key]

    def get(self, name: str, default: str | None = None) -> str | None:
        """Look a field up.

        Args:
            name: its name, in any case.
            default: what to return when there is none.

        Returns:
            Its value, or default. Several are joined: those of ``Cookie`` with ``"; "``, as one field would have them
            (RFC 9113 section 8.2.3), all others with ``", "`` (RFC 9110 section 5.3). That is right for lists; what a
            ``Set-Cookie`` holds cannot be told apart afterwards, so there is ``get_set_cookie()``.

        Bun: Headers.get.
        """
        values = self.get_list(name)
        if not values:
            return default
        return values[0] if len(values) == 1 else ("; " if name.lower() == "cookie" else ", ").join(values)

    def get_list(self, name: str) -> list[str]:
        """Look up every field of a name.

        Args:
            name: the name, in any case.

        Returns:
            The values in order; an empty list when there is none.

        Bun: Headers.getAll.
        """
        key = name.lower()
        return [value for field, value in self._pairs if field.lower() == key]

    def get_set_cookie(self) -> list[str]:
        """Look up every ``Set-Cookie``, unjoined.

        Returns:
            The values in order; an empty list when there is none.

        Bun: Headers.getSetCookie. RFC 6265 section 3.
        """
        return self.get_list("set-cookie")

    def items(self) -> list[tuple[str, str]]:
        """List all fields.

        Returns:
            Pairs of name and value in order; a name that occurs twice is there twice.

        Bun: Headers.entries.
        """
        return list(self._pairs)

    def keys(self) -> list[str]:
        """List the names.

        Returns:
            Each name once, as first spelled, in order.

        Bun: Headers.keys.
        """
        seen: dict[str, str] = {}
        for name, _ in self._pairs:
            seen.setdefault(name.lower(), name)
        return list(seen.values())

    def values(self) -> list[str]:
        """List the values.

        Returns:
            All values in order, one for each pair of ``items()``.

        Bun: Headers.values.
        """
        return [value for _, value in self._pairs]

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __setitem__(self, name: str, value: str) -> None:
        self.set(name, value)

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self.delete(name)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        key = name.lower()
        return any(field.lower() == key for field, _ in self._pairs)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            return NotImplemented
        return [(name.lower(), value) for name, value in self._pairs] == [
            (name.lower(), value) for name, value in other._pairs
        ]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Headers({self._pairs!r})"


def trusted_headers(pairs: list[tuple[str, str]]) -> Headers:
    """``Headers`` of pairs that a parser has checked already, which are not copied."""
    headers = Headers.__new__(Headers)
    headers._pairs = pairs
    return headers
