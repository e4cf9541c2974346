"""The states of a WebSocket, as the browser's ``WebSocket`` and Bun number them."""

from enum import IntEnum


class ReadyState(IntEnum):
    """What ``ServerWebSocket.ready_state`` compares equal to.

    A server's socket is ``OPEN`` from ``open`` on and ``CLOSED`` from the call of ``close`` on; it is never seen in the
    two states between, which exist for completeness.

    Bun: ServerWebSocket.readyState; the browser's WebSocket.readyState.
    """

    CONNECTING = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3
