"""``dir(Server)``: it lists the members that are meant for users.

The native half of a server has more, which the facade, the dashboard or the tests call. The docstring of each begins
with "For the facade." or the like, so that no list of them can fall behind.
"""

from __future__ import annotations

from . import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Metaclass = type
else:
    Metaclass = type(_core.ServerCore)

INTERNAL = "For the "


class PublicMembers(Metaclass):
    """The metaclass of ``Server``."""

    def __dir__(cls) -> list[str]:  # noqa: N805  it is a metaclass
        return [name for name in super().__dir__() if is_public(cls, name)]


def is_public(cls: type, name: str) -> bool:
    """Whether a member is for users. Python's own names in double underscores are: protocols, mocks and help() look."""
    if name.startswith("_"):
        return name.startswith("__") and name.endswith("__")
    for base in cls.__mro__:
        if name in vars(base):
            found: Any = vars(base)[name]
            text = getattr(getattr(found, "__func__", found), "__doc__", None) or ""
            return not text.lstrip().startswith(INTERNAL)
    return True  # an attribute of an instance
