"""``Cookie`` and ``CookieMap``: the cookies of a request, and the changes that an answer makes to them.

A client's ``Cookie`` field is read leniently, as browsers and proxies send all kinds of them (RFC 6265 section 5.4): a
pair that cannot be read is ignored alone, never the others. A cookie that the server sets is checked strictly (RFC
6265bis section 4.1), because a browser drops a bad one without a word.
"""

from __future__ import annotations

from .dates import http_date
from .headers import check_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime
    from typing import Any, Literal

    SameSite = Literal["strict", "lax", "none"]

# RFC 6265 section 4.1.1, cookie-octet, without "%", which begins an encoded byte.
_UNQUOTED = "!#$&'()*+-./:<=>?@[]^_`{|}~"
# RFC 6265bis sections 5.6 and 5.6.1: browsers ignore a longer cookie, and a longer attribute.
_MAX_COOKIE = 4096
_MAX_ATTRIBUTE = 1024
_ATTRIBUTES = ("domain", "path", "expires", "max_age", "secure", "http_only", "same_site", "partitioned")
_BUN_ATTRIBUTES = {"httpOnly": "http_only", "maxAge": "max_age", "sameSite": "same_site"}


def read_cookie_field(field: str) -> dict[str, str]:
    """The cookies of a ``Cookie`` field, in order. Of two with one name the first counts, which has the longer path."""
    found: dict[str, str] = {}
    for pair in field.split(";"):
        name, separator, value = pair.partition("=")
        name, value = name.strip(" \t"), value.strip(" \t")
        if not separator or not name or name in found:
            continue
        if len(value) >= 2 and value[0] == value[-1] == '"':
            value = value[1:-1]
        if "%" in value:
            value = _decode(value)
        elif not value.isascii():
            value = _from_utf8(value)
        found[name] = value
    return found


def _from_utf8(value: str) -> str:
    # A field is decoded as latin-1; most clients that send other bytes mean UTF-8.
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _encode(value: str) -> str:
    from urllib.parse import quote

    return quote(value, safe=_UNQUOTED)


def _decode(value: str) -> str:
    from urllib.parse import unquote

    # As in JavaScript's decodeURIComponent, a value with a bad escape is taken as it is.
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError:
        return value


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} of a cookie must be a bool, got {type(value).__name__}")
    return value


def _seconds(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"max_age of a cookie must be an int or None, got {type(value).__name__}")
    return value


def _attribute(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} of a cookie must be a str, got {type(value).__name__}")
    if any(not " " <= character <= "~" or character == ";" for character in value):
        raise ValueError(f"{name} of a cookie has a character that cannot be in it: {value!r}")
    if len(value) > _MAX_ATTRIBUTE:
        raise ValueError(f"{name} of a cookie may have {_MAX_ATTRIBUTE} characters, this has {len(value)}")
    return value


class Cookie:
    """A cookie to set, with its attributes; immutable.

    Args:
        name: a token.
        value: any text; what cannot be in a cookie is percent-encoded, as UTF-8.
        domain: the domain whose hosts get the cookie; ``None`` for this host alone.
        path: the path below which it is sent; ``""`` leaves the choice to the browser.
        expires: when it ends: a ``datetime`` with a time zone, or seconds since 1970 as a number.
        max_age: in how many seconds it ends, an int; 0 or less ends it at once. It counts more than ``expires``.
            Without both the cookie lasts as long as the browser's session.
        secure: send it over HTTPS only.
        http_only: hide it from scripts.
        same_site: ``"strict"``, ``"lax"`` or ``"none"``, which needs ``secure``.
        partitioned: keep it apart for each site that embeds this one; needs ``secure``.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: a name, value or attribute that browsers would refuse; the message names the rule.

    Threads: any.

    Bun: Cookie. RFC 6265bis section 4.1.
    """

    __slots__ = ("name", "value", *_ATTRIBUTES)

    name: str
    """The name. Bun: Cookie.name."""
    value: str
    """The value, not encoded. Bun: Cookie.value."""
    domain: str | None
    """The domain, or ``None``. Bun: Cookie.domain."""
    path: str
    """The path, or ``""``. Bun: Cookie.path."""
    expires: datetime | None
    """When it ends, in UTC, or ``None``. Bun: Cookie.expires."""
    max_age: int | None
    """In how many seconds it ends, or ``None``. Bun: Cookie.maxAge."""
    secure: bool
    """Whether it is sent over HTTPS only. Bun: Cookie.secure."""
    http_only: bool
    """Whether it is hidden from scripts. Bun: Cookie.httpOnly."""
    same_site: SameSite
    """``"strict"``, ``"lax"`` or ``"none"``. Bun: Cookie.sameSite."""
    partitioned: bool
    """Whether it is kept apart for each site that embeds this one. Bun: Cookie.partitioned."""

    def __init__(
        self,
        name: str,
        value: str,
        *,
        domain: str | None = None,
        path: str = "/",
        expires: datetime | float | None = None,
        max_age: int | None = None,
        secure: bool = False,
        http_only: bool = False,
        same_site: SameSite = "lax",
        partitioned: bool = False,
    ) -> None:
        if not isinstance(value, str):
            raise TypeError(f"the value of a cookie must be a str, got {type(value).__name__}")
        if same_site not in ("strict", "lax", "none"):
            raise ValueError(f"same_site of a cookie must be 'strict', 'lax' or 'none', got {same_site!r}")
        checked: dict[str, Any] = {
            "name": check_name(name, "cookie"),
            "value": value,
            "domain": None if domain is None else _attribute("domain", domain),
            "path": _attribute("path", path),
            "expires": _moment(expires),
            "max_age": None if max_age is None else _seconds(max_age),
            "secure": _flag("secure", secure),
            "http_only": _flag("http_only", http_only),
            "same_site": same_site,
            "partitioned": _flag("partitioned", partitioned),
        }
        for attribute, given in checked.items():
            object.__setattr__(self, attribute, given)
        self._check_rules()

    def _check_rules(self) -> None:
        """What browsers ask of a cookie as a whole (RFC 6265bis sections 4.1.2, 4.1.3 and 5.6)."""
        name = self.name.lower()
        if self.path and not self.path.startswith("/"):
            raise ValueError(f"path of a cookie must begin with '/', got {self.path!r}")
        if not self.secure:
            if self.same_site == "none" or self.partitioned:
                which = "partitioned" if self.partitioned else "same_site='none'"
                raise ValueError(f"a cookie with {which} must be secure: browsers refuse it otherwise")
            if name.startswith(("__secure-", "__host-", "__http-")):
                raise ValueError(f"the cookie {self.name!r} must be secure: its prefix says so")
        if name.startswith(("__http-", "__host-http-")) and not self.http_only:
            raise ValueError(f"the cookie {self.name!r} must be http_only: its prefix says so")
        if name.startswith("__host-") and (self.domain is not None or self.path != "/"):
            raise ValueError(f"the cookie {self.name!r} must have the path '/' and no domain: its prefix says so")
        length = len(self.name) + len(_encode(self.value))
        if length > _MAX_COOKIE:
            raise ValueError(
                f"the cookie {self.name!r} has {length} bytes with its value, and browsers take {_MAX_COOKIE}"
            )

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Cookie is immutable: {name!r} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a Cookie is immutable: {name!r} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cookie):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __hash__(self) -> int:
        return hash((self.name, self.value, self.domain, self.path))

    def is_expired(self) -> bool:
        """Whether its time is over.

        Returns:
            True when ``max_age`` is 0 or less, or, without ``max_age``, ``expires`` has passed.

        Bun: Cookie.isExpired.
        """
        if self.max_age is not None:
            return self.max_age <= 0
        if self.expires is None:
            return False
        return self.expires <= self.expires.now(self.expires.tzinfo)

    def serialize(self) -> str:
        """Write the cookie as the value of a ``Set-Cookie`` field.

        Returns:
            A str, such as ``"id=1; Path=/; SameSite=Lax"``.

        Bun: Cookie.serialize.
        """
        parts = [f"{self.name}={_encode(self.value)}"]
        if self.domain:
            parts.append(f"Domain={self.domain}")
        if self.path:
            parts.append(f"Path={self.path}")
        if self.expires is not None:
            parts.append(f"Expires={http_date(self.expires.timestamp())}")
        if self.max_age is not None:
            parts.append(f"Max-Age={self.max_age}")
        flags = {"Secure": self.secure, "HttpOnly": self.http_only, "Partitioned": self.partitioned}
        parts += [name for name, is_on in flags.items() if is_on]
        parts.append(f"SameSite={self.same_site.capitalize()}")
        return "; ".join(parts)

    __str__ = serialize

    def __repr__(self) -> str:
        return f"<Cookie {self.serialize()}>"


def _moment(expires: object) -> datetime | None:
    from datetime import datetime, timezone

    if expires is None:
        return None
    if isinstance(expires, (int, float)) and not isinstance(expires, bool):
        try:
            return datetime.fromtimestamp(expires, timezone.utc)
        except (OverflowError, OSError, ValueError):
            raise ValueError(f"expires of a cookie is out of range: {expires!r}") from None
    if not isinstance(expires, datetime):
        raise TypeError(
            f"expires of a cookie must be a datetime, seconds since 1970 or None, got {type(expires).__name__}"
        )
    if expires.tzinfo is None:
        raise ValueError("expires of a cookie must be a datetime with a time zone, such as datetime.now(timezone.utc)")
    return expires.astimezone(timezone.utc)


class CookieMap:
    """Cookies by name: those that a client has sent, and the changes that an answer makes to them.

    ``CookieMap(request.headers.get("cookie"))`` reads the client's. What ``set`` and ``delete`` change is listed by
    ``to_set_cookie_headers()``, for the headers of a response or of ``server.upgrade()``. ``len()``, ``in``, iteration
    and ``[name]`` go by name, as in a dict.

    Args:
        init: the value of a ``Cookie`` field, a mapping, or pairs of name and value; nothing for none.

    Raises:
        TypeError: init is none of these.

    Threads: not locked; one thread at a time.

    Bun: CookieMap. RFC 6265bis.
    """

    __slots__ = ("_changes", "_cookies")

    if TYPE_CHECKING:  # Bun's spelling, which _bun_names puts on the class

        def toSetCookieHeaders(self) -> list[str]: ...
        def toJSON(self) -> dict[str, str]: ...

    def __init__(self, init: str | Mapping[str, str] | Iterable[tuple[str, str]] | None = None) -> None:
        self._changes: dict[tuple[str, str | None, str], Cookie] = {}
        if init is None:
            self._cookies: dict[str, str] = {}
        elif isinstance(init, str):
            self._cookies = read_cookie_field(init)
        else:
            try:
                self._cookies = dict(init)
            except (TypeError, ValueError):
                raise TypeError(
                    f"cookies must be a Cookie field, a mapping or pairs, got {type(init).__name__}"
                ) from None
            for pair in self._cookies.items():
                if not all(isinstance(text, str) for text in pair):
                    raise TypeError(f"a cookie must be a pair of str, got {pair!r}")

    def get(self, name: str, default: str | None = None) -> str | None:
        """Look a cookie up.

        Args:
            name: its name; case matters.
            default: what to return when there is none.

        Returns:
            Its value, percent-decoded, or default.

        Bun: CookieMap.get.
        """
        return self._cookies.get(name, default)

    def has(self, name: str) -> bool:
        """Say whether there is a cookie of a name; ``name in cookies`` is the same.

        Args:
            name: its name; case matters.

        Returns:
            A bool.

        Bun: CookieMap.has.
        """
        return name in self._cookies

    def set(self, cookie: str | Cookie, value: str | None = None, options: Any = None, **attributes: Any) -> None:
        """Set a cookie: it can be looked up at once, and is among the changes.

        Args:
            cookie: its name, or a whole ``Cookie``.
            value: its value; not with a ``Cookie``.
            options: its attributes as a dict, in Bun's spelling or ours.
            **attributes: the same by keyword, as ``Cookie()`` takes them.

        Returns:
            None.

        Raises:
            TypeError: arguments of a wrong type, or an unknown attribute.
            ValueError: a cookie that browsers would refuse.

        Bun: CookieMap.set.
        """
        if isinstance(cookie, Cookie):
            if value is not None or options is not None or attributes:
                raise TypeError("set() takes a Cookie alone, or a name, a value and attributes")
        else:
            if options is not None:
                attributes = {**_read_options("set()", options, _ATTRIBUTES), **attributes}
            cookie = Cookie(cookie, value, **attributes)  # type: ignore[arg-type]  # Cookie() names a wrong value
        self._change(cookie)
        if cookie.is_expired():
            self._cookies.pop(cookie.name, None)
        else:
            self._cookies[cookie.name] = cookie.value

    def delete(self, name: str, options: Any = None, *, domain: str | None = None, path: str = "/") -> None:
        """Delete a cookie, here and among the changes. ``domain`` and ``path`` must be those that it was set with.

        Args:
            name: its name; case matters.
            options: ``domain`` and ``path`` as a dict.
            domain: the domain that it was set with.
            path: the path that it was set with.

        Returns:
            None.

        Raises:
            TypeError: arguments of a wrong type.
            ValueError: a name that no cookie can have.

        Bun: CookieMap.delete.
        """
        given: dict[str, Any] = {"domain": domain, "path": path}
        if options is not None:
            given.update(_read_options("delete()", options, ("domain", "path")))
        # A browser takes a cookie whose name has one of these prefixes only with what they ask for, also to delete it.
        prefixed = str(name).lower().startswith(("__secure-", "__host-", "__http-"))
        self._change(Cookie(name, "", expires=1, max_age=0, secure=prefixed, http_only=prefixed, **given))
        self._cookies.pop(name, None)

    def _change(self, cookie: Cookie) -> None:
        # RFC 6265bis section 4.1: one Set-Cookie for each name, domain and path. The last one counts.
        key = (cookie.name, cookie.domain, cookie.path)
        self._changes.pop(key, None)
        self._changes[key] = cookie

    def to_set_cookie_headers(self) -> list[str]:
        """List what was changed, as the values of ``Set-Cookie`` fields.

        Returns:
            A list of str, in the order of the changes.

        Bun: CookieMap.toSetCookieHeaders.
        """
        return [cookie.serialize() for cookie in self._changes.values()]

    def to_json(self) -> dict[str, str]:
        """Copy the cookies.

        Returns:
            A dict of names and values.

        Bun: CookieMap.toJSON.
        """
        return dict(self._cookies)

    @property
    def size(self) -> int:
        """How many cookies there are, an int; the same as ``len()``. Bun: CookieMap.size."""
        return len(self._cookies)

    def keys(self) -> Iterable[str]:
        """List the names.

        Returns:
            A view, as of a dict.

        Bun: CookieMap.keys.
        """
        return self._cookies.keys()

    def values(self) -> Iterable[str]:
        """List the values.

        Returns:
            A view, as of a dict.

        Bun: CookieMap.values.
        """
        return self._cookies.values()

    def items(self) -> Iterable[tuple[str, str]]:
        """List names and values.

        Returns:
            A view, as of a dict.

        Bun: CookieMap.entries.
        """
        return self._cookies.items()

    def __getitem__(self, name: str) -> str:
        return self._cookies[name]

    def __contains__(self, name: object) -> bool:
        return name in self._cookies

    def __iter__(self) -> Iterator[str]:
        return iter(self._cookies)

    def __len__(self) -> int:
        return len(self._cookies)

    def __repr__(self) -> str:
        return f"<CookieMap {self._cookies!r}, {len(self._changes)} changes>"


def _read_options(call: str, options: object, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(options, dict):
        raise TypeError(f"{call}: options must be a dict, got {type(options).__name__}")
    given: dict[str, Any] = {}
    for spelled, value in options.items():
        name = _BUN_ATTRIBUTES.get(spelled, spelled)
        if name not in known:
            raise TypeError(f"{call}: unknown option {spelled!r} (there are {', '.join(known)})")
        given[name] = value
    return given
