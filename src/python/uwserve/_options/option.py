"""``Option`` and ``Options``: a row and a table of options.

A table is the one place that says which options there are. The names that are accepted, in both spellings, the checks,
the defaults, what ``reload()`` may change and the flags of the command all come from it; the tests compare the types
(``uwserve.types``) and the documentation with it. The core takes options under the same names and checks none of them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .._checks import Check


def camel(name: str) -> str:
    """``idle_timeout`` in Bun's spelling, ``idleTimeout``."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


class Option:
    """One option.

    ``check(label, value)`` returns the value in the form that the core takes, or raises an error that begins with
    ``label``. ``default`` has that form already. ``fixed``: ``reload()`` cannot change it. ``help`` is the text of its
    flag, for an option that ``uwserve serve`` makes a flag of by the type of its default. ``aliases`` are further
    spellings; Bun's is made from the name.
    """

    __slots__ = ("aliases", "check", "default", "fixed", "help", "name")

    def __init__(
        self,
        name: str,
        check: Check,
        default: Any = None,
        *,
        fixed: bool = False,
        help: str | None = None,
        aliases: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.check = check
        self.default = default
        self.fixed = fixed
        self.help = help
        self.aliases = (camel(name), *aliases) if "_" in name else aliases


class Options(dict[str, Option]):
    """A table: options by name. ``aliases`` has our name for each other spelling."""

    __slots__ = ("aliases",)

    def __init__(self, *options: Option) -> None:
        super().__init__((option.name, option) for option in options)
        self.aliases = {alias: option.name for option in options for alias in option.aliases}

    def defaults(self) -> dict[str, Any]:
        return {name: option.default for name, option in self.items()}

    def spellings(self, where: str, given: Mapping[Any, Any]) -> dict[str, str]:
        """Our name of each option in ``given`` -> its name as given. Unknown and doubled ones raise ``TypeError``."""
        names: dict[str, str] = {}
        for spelled in given:
            if not isinstance(spelled, str):
                raise TypeError(f"{where}: option names must be str, got {type(spelled).__name__}: {spelled!r}")
            name = self.aliases.get(spelled, spelled)
            if name not in self:
                raise TypeError(f"{where}: unknown option {spelled!r}{self._did_you_mean(spelled)}")
            if name in names:
                raise TypeError(f"{where}: {names[name]!r} and {spelled!r} are the same option")
            names[name] = spelled
        return names

    def check(self, where: str, given: Mapping[Any, Any], prefix: str = "", suffix: str = "") -> dict[str, Any]:
        """The options in ``given`` under our names, checked. Errors name them between ``prefix`` and ``suffix``."""
        names = self.spellings(where, given)
        return {name: self[name].check(prefix + spelled + suffix, given[spelled]) for name, spelled in names.items()}

    def _did_you_mean(self, spelled: str) -> str:
        import difflib

        close = difflib.get_close_matches(spelled, [*self, *self.aliases], n=1)
        return f" (did you mean {close[0]!r}?)" if close else ""
