"""``Embedded``: a server inside a running event loop, by ``async with`` or ``serve_forever()``."""

from __future__ import annotations

import threading

from .._checks import seconds
from .stopping import TIMEOUT, StopBySignals

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio

    from .event_loop import LoopAttachment


class Embedded:
    """The run modes inside a running event loop. On its thread."""

    def __init__(self, attachment: LoopAttachment) -> None:
        self._attachment = attachment
        self._state = attachment.state
        self._lifespan = attachment.lifespan
        self._serving = 0  # calls of serve_forever() under way

    async def enter(self) -> None:
        """The beginning of ``async with``."""
        import asyncio

        from .block import Block

        loop = asyncio.get_running_loop()
        self._check_can_begin()
        stop = StopBySignals(self._state.stop, TIMEOUT, after=self._attachment.signalled)
        block = Block(loop, stop, self._state.completion, lambda: self._serving > 0)
        try:
            await self._begin(loop)
        except BaseException:
            block.close(None)
            raise
        self._attachment.block = block
        block.enter()

    async def exit(self, exc: BaseException | None) -> bool:
        """The end of ``async with``; whether ``exc`` is a cancellation of its own."""
        attachment = self._attachment
        if self._state.loop is not None:
            attachment.check_can_await(self._state.loop)
        block, attachment.block = attachment.block, None
        if block is not None:
            block.exit()
        is_own = False
        try:
            self._state.stop(True)
            if self._state.loop is not None or (self._lifespan is not None and self._lifespan.is_ending()):
                await self._end()
        finally:
            attachment.leave()
            if block is not None:
                is_own = block.close(exc)
        return is_own

    async def _end(self) -> None:
        """Wait for the end of a forced stop; a cancellation meanwhile is raised afterwards."""
        import asyncio

        cancelled: asyncio.CancelledError | None = None
        while not self._state.stopped.done():
            try:
                await self._state.stopped
            except asyncio.CancelledError as exc:
                cancelled = exc
        if cancelled is not None:
            raise cancelled

    async def serve_forever(self, stop_timeout: float) -> None:
        import asyncio

        from .signals import StopOnSigterm

        limit = seconds("stop_timeout", stop_timeout)
        on_signal = StopBySignals(self._state.stop, limit, after=self._attachment.signalled)
        if self._state.server.finished and not self._state.is_forked():
            return
        loop = asyncio.get_running_loop()
        is_new = self._state.loop is not loop and (self._lifespan is None or self._lifespan.loop is not loop)
        has_begun = False
        if is_new:
            self._check_can_begin()
        self._serving += 1
        try:
            with StopOnSigterm(loop, on_signal):
                if is_new:
                    await self._begin(loop)
                    has_begun = True
                if not self._state.stopped.done():
                    await self._state.stopped
        except asyncio.CancelledError:
            self._state.stop(True)
            await self._end()
            raise
        finally:
            self._serving -= 1
            if has_begun:
                self._attachment.leave()

    def _check_can_begin(self) -> None:
        """What ``claim`` checks, before anything is done."""
        self._state.check_alive()
        self._attachment.release_closed()
        self._state.check_unclaimed()

    async def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        state = self._state
        self._attachment.claim(threading.current_thread())
        try:
            if state.own_loop is not None:  # of a run that was broken off; its coroutines end with it
                state.core.forget_event_loop()
                state.own_loop.close()
                state.own_loop = None
            await self._attachment.open(loop)
        except BaseException:
            state.unclaim()
            raise
