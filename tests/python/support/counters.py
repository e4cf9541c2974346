"""What tests of counters wait with."""

from __future__ import annotations

from typing import Any

from ws_client import eventually


def settled(server: Any, expected: dict[str, Any]) -> None:
    """Waits until the named counters (a dot goes one deeper) have these values: some change after the last callback."""

    def differing() -> dict[str, Any]:
        stats = server.stats()
        found = {}
        for name, value in expected.items():
            told: Any = stats
            for key in name.split("."):
                told = told[key]
            if told != value:
                found[name] = (told, value)
        return found

    try:
        eventually(lambda: not differing())
    except AssertionError:
        raise AssertionError(f"(told, expected): {differing()}") from None
