"""Members that the facade puts on native types. The stub declares and documents them, like those written in C++."""

from __future__ import annotations

from . import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def add_methods(cls: type, **functions: Any) -> None:
    """Give ``cls`` these functions as methods; once, at import."""
    for name, function in functions.items():
        function.__name__ = name
        function.__qualname__ = f"{cls.__name__}.{name}"
        function.__doc__ = _core.docstrings[function.__qualname__].partition("--\n\n")[2]  # behind the signature
        setattr(cls, name, function)
