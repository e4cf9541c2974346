"""Names that make a class generic over ``ws.data`` without importing ``typing``, which most programs do not need.

Type checkers see ``typing``'s own names. At run time a class that derives from ``Generic[DataT]`` takes a subscript,
which is all that annotations want, and ``overload`` leaves nothing behind.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Generic, overload

    from typing_extensions import TypeVar

    DataT = TypeVar("DataT", default=Any)
    """The type of ``ws.data``; ``Any`` where nothing says it."""
else:
    from types import GenericAlias

    DataT = "DataT"

    class Generic:
        """A base for classes that take a subscript."""

        __slots__ = ()
        __class_getitem__ = classmethod(GenericAlias)

    def overload(function):
        """A signature for type checkers."""
        return function


__all__ = ["DataT", "Generic", "overload"]
