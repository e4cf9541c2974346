"""The option ``tls``, with Bun's keys: checked, its files read, made into a ``_core.TlsConfig``.

``tls`` is a dict, or a list of dicts with different ``server_name``. Keys, certificates and authorities are PEM: text
that contains ``-----BEGIN`` is taken as it is, any other ``str`` and every path object names a file. No error text
holds a key or a passphrase: wrong values are named by their type.
"""

from __future__ import annotations

from .. import _checks, _core
from .option import Option, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_FILE_BYTES = 1 << 20


def _wrong_type(label: str, expected: str, value: object) -> TypeError:
    return TypeError(f"{label} must be {expected}, got {type(value).__name__}")


def pem(label: str, value: object) -> bytes:
    import os

    if isinstance(value, (bytes, bytearray)):
        if b"-----BEGIN" not in value:
            raise ValueError(
                f"{label} is not PEM text: '-----BEGIN' is not in it (a path must be a str or os.PathLike)"
            )
        return bytes(value)
    if isinstance(value, str) and "-----BEGIN" in value:
        return value.encode()
    if not isinstance(value, (str, os.PathLike)):
        raise _wrong_type(label, "PEM text (str or bytes) or a path (str or os.PathLike)", value)
    return _read(label, os.fspath(value))


def _read(label: str, path: str | bytes) -> bytes:
    if not path or (("\0" in path) if isinstance(path, str) else (b"\0" in path)):
        raise ValueError(
            f"{label} is neither PEM text nor a path: {'it has a NUL character' if path else 'it is empty'}"
        )
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise type(error)(error.errno, f"{label} cannot be read: {error.strerror}", path) from None
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"{label} is over {MAX_FILE_BYTES} bytes: {path!r}")
    return content


def _passphrase(label: str, value: object) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    raise _wrong_type(label, "a str or bytes", value)


def _ciphers(label: str, value: object) -> bytes:
    text = _checks.text(label, value)
    if not text.strip(" ,:") or not text.isascii() or not text.isprintable():
        raise ValueError(f"{label} must be names of ciphers with ':' between them, got {text!r}")
    return text.encode()


def _names(label: str, value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, (list, tuple)):
        for name in value:
            if not isinstance(name, str):
                raise _checks.wrong_type(f"each of {label}", "a str", name)
        return list(value)
    raise _checks.wrong_type(label, "a str or a list of str", value)


def _alpn(label: str, value: object) -> list[str]:
    if value is None:
        return ["http/1.1"]
    if isinstance(value, str):
        raise _checks.wrong_type(label, "a list of str", value)
    protocols = _names(label, value)
    for name in protocols:
        if not 0 < len(name.encode()) < 256:
            raise ValueError(f"{label}: a protocol's name is 1 to 255 bytes long (RFC 7301), got {name!r}")
    return protocols


def _server_names(label: str, value: object) -> list[str]:
    return [] if value is None else [_server_name(label, name) for name in _names(label, value)]


def _server_name(label: str, given: str) -> str:
    """The name as clients send it: A-labels, lower case, no trailing dot."""
    wildcard = given.startswith("*.")
    try:
        host = (given[2:] if wildcard else given).removesuffix(".").encode("idna").decode("ascii")
    except UnicodeError as error:
        raise ValueError(f"{label}: {given!r} is not a host name ({error})") from None
    if not host or host.startswith(".") or not set(host) <= _HOST_CHARACTERS:
        hint = "; '*.' stands for one label, and only as the first" if "*" in host else ""
        raise ValueError(f"{label}: {given!r} is not a host name{hint}")
    return ("*." if wildcard else "") + host.lower()


_HOST_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


TLS = Options(
    Option("key", _checks.or_none(pem)),
    Option("cert", _checks.or_none(pem)),
    Option("ca", _checks.or_none(pem)),
    Option("passphrase", _checks.or_none(_passphrase)),
    Option("server_name", _server_names, []),
    Option("request_cert", _checks.boolean, False),
    Option("reject_unauthorized", _checks.boolean, True),
    Option("ciphers", _checks.or_none(_ciphers)),
    Option("alpn_protocols", _alpn, ["http/1.1"], aliases=("ALPNProtocols",)),
)


def _entry(label: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong_type(label, "a dict", value)
    checked = TLS.defaults() | TLS.check(label, value, f"{label}.")
    for name in ("key", "cert"):
        if checked[name] is None:
            raise ValueError(f"{label}.{name} is missing")
    if checked["request_cert"] and checked["reject_unauthorized"] and checked["ca"] is None:
        raise ValueError(f"{label}.ca is missing: without it no client certificate can be accepted")
    return checked | {"label": label}


def check_tls(label: str, value: object) -> _core.TlsConfig:
    """The configuration of a server with TLS.

    ``TypeError`` for unknown options and wrong types, ``ValueError`` for what OpenSSL does not accept, ``OSError`` for
    files that cannot be read; all name the option.
    """
    if isinstance(value, dict):
        return _core.TlsConfig([_entry(label, value)])
    if not isinstance(value, (list, tuple)):
        raise _wrong_type(label, "a dict or a list of dicts", value)
    if not value:
        raise ValueError(f"{label} must not be an empty list: leave it out for a server without TLS")
    entries = [_entry(f"{label}[{index}]", entry) for index, entry in enumerate(value)]
    for entry in entries[1:]:
        if not entry["server_name"]:
            raise ValueError(f"{entry['label']}.server_name is missing: no client could ever choose this entry")
    return _core.TlsConfig(entries)
