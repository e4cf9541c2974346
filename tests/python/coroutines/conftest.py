"""Fixtures of the tests of coroutines: the ways to run a server, and handlers that wait."""

from __future__ import annotations

from typing import Any

import pytest
from loops import Gate
from server_modes import MODES


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Any:
    return request.param


class Waiting:
    """Handlers that wait at the gate, and what they were given."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.running = self.most = 0
        self.gate: Gate

    async def __call__(self, ws, message="") -> None:
        self.begun.append(message)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        self.ended.append(message)


@pytest.fixture
def waiting(inside):
    """``waiting(**options)``: a server whose ``message`` handler waits, and that handler."""

    def make(**options):
        handler = Waiting()
        live = inside(**{"message": handler} | options)
        handler.gate = Gate(live)
        return live, handler

    return make
