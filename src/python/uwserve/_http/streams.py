"""Streamed bodies from asynchronous iterables: a Task for each body pulls its pieces.

The core calls ``notify`` when it wants a piece and takes it by ``push_piece``. The iterator is never ahead: it is asked
for its next piece when the kernel has taken the last one. However the body ends, the iterator's ``aclose()`` is
awaited.

Everything here runs on the loop's thread. It is imported with the first such body, as other servers need no asyncio.
"""

from __future__ import annotations

import asyncio
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    from .._core import Request, ServerControl
    from .response import Response

TURN_SECONDS = 0.002
"""After so long the rest of the event loop gets a turn, because some iterators never wait for anything."""


class Sender:
    """One body on its way to one client."""

    __slots__ = (
        "_core",
        "_has_begun",
        "_is_over",
        "_is_wanted",
        "_iterator",
        "_loop",
        "_request",
        "_task",
        "_waiter",
    )

    def __init__(self, core: ServerControl, request: Request, iterator: AsyncIterator[Any]) -> None:
        self._core = core
        self._request = request
        self._iterator = iterator
        self._has_begun = False
        self._is_wanted = False
        self._is_over = False
        self._task: asyncio.Task[Any] | None = None
        self._waiter: asyncio.Future[None] | None = None  # while no piece is wanted
        self._loop: asyncio.AbstractEventLoop | None = None  # while the iterator is asked for a piece

    def begin(self, response: Response) -> None:
        """Send the head, and begin to pull."""
        core, request = self._core, self._request
        try:
            taken = core.respond_pushed(request, response.status, response.headers.items(), self.notify)
        except BaseException:  # a status that was changed to none
            self.drop()
            raise
        if not taken:
            self._is_over = True  # the client has disconnected
        self.start()

    def start(self) -> None:
        """Begin to pull."""
        self._task = self._core.start_coroutine(self._run(), "stream")
        if self._task is None:
            self._end(False)  # it has ended, and this does nothing; or there is no loop for it
        elif not self._has_begun:  # a Task that is cancelled before its first step runs nothing of this
            self._task.add_done_callback(lambda _: self._end(False))

    def drop(self) -> None:
        """Close the iterator of a body that will not be sent."""
        self._is_over = True
        self.start()

    def notify(self, wanted: bool) -> None:
        """The core wants a piece, or (False) the body is over."""
        if wanted:
            self._is_wanted = True
        else:
            self._is_over = True
        waiter = self._waiter
        if waiter is not None and not waiter.done() and not waiter.get_loop().is_closed():
            waiter.set_result(None)
        loop = self._loop
        if not wanted and loop is not None and not loop.is_closed():
            loop.call_soon(self._interrupt)  # the iterator itself may be what runs now

    def _interrupt(self) -> None:
        """The client has disconnected while the iterator waits for something.

        A forced stop has cancelled its Task already. If the iterator itself asked for that stop, it may be inside its
        own ``finally``, and gets the same time to end as every coroutine that stops the server.
        """
        if self._loop is not None and self._task is not None and not self._core.forced:
            self._task.cancel()

    def _is_stepped(self) -> bool:
        """Whether ``_run`` is being stepped, in its Task or before it has one."""
        if self._task is None:
            return self._has_begun
        return asyncio._get_running_loop() is not None and asyncio.current_task() is self._task

    async def _run(self) -> None:
        self._has_begun = True
        try:
            try:
                is_complete = await self._pull()
            except asyncio.CancelledError:
                if not self._is_over:
                    raise
                is_complete = False  # the result is not used
        except BaseException as exc:
            if isinstance(exc, GeneratorExit) and not self._is_stepped():
                raise  # the event loop has ended, and nothing can be awaited
            self._end(False)
            await self._close()
            raise
        self._end(is_complete)
        await self._close()

    async def _pull(self) -> bool:
        """Send piece after piece; True at the end of the iterator, False when the body is over before."""
        loop = asyncio.get_running_loop()
        turn_began = monotonic()
        while await self._until_wanted(loop):
            self._loop = loop
            try:
                piece = await self._iterator.__anext__()
            except StopAsyncIteration:
                return True
            finally:
                self._loop = None
            self._is_wanted = self._core.push_piece(self._request, piece)
            del piece  # not kept while the next one is waited for
            if monotonic() - turn_began > TURN_SECONDS:
                await asyncio.sleep(0)
                turn_began = monotonic()
        return False

    async def _until_wanted(self, loop: asyncio.AbstractEventLoop) -> bool:
        """False when the body is over."""
        while not self._is_wanted and not self._is_over:
            self._waiter = loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return not self._is_over

    def _end(self, complete: bool) -> None:
        """End the body, or cut the connection when it is incomplete, unless the body is over already."""
        if not self._is_over:
            self._core.end_pushed(self._request, complete)

    async def _close(self) -> None:
        close = getattr(self._iterator, "aclose", None)
        if close is not None:
            await close()
