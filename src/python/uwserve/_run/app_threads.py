"""The application's threads: whether they are real ones, and which of them a process still waits for at its end."""

from __future__ import annotations

import os
import sys
import threading

from .. import _logs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType

NAME_SECONDS = 2.0
"""How long the process may wait for its threads until the log names them."""

_PATCHERS = (
    ("gevent", "gevent.monkey", "is_module_patched", "threading", "gevent.monkey.patch_all(thread=False)"),
    ("eventlet", "eventlet.patcher", "is_monkey_patched", "thread", "eventlet.monkey_patch(thread=False)"),
)


def check_are_real(call: str) -> None:
    """``RuntimeError`` when threads are greenlets: a server in one of them would block all others."""
    for package, module, function, name, instead in _PATCHERS:
        patcher = sys.modules.get(module)
        if patcher is not None and getattr(patcher, function)(name):
            raise RuntimeError(
                f"{call} needs a thread, but {package} has replaced threads by greenlets, of which the server would "
                f"block all others: use {instead}, or run() in a process of its own"
            )


_is_watching = False


def log_remaining() -> None:
    """Log the names of the threads once the process waits for nothing else. At the end of a server; main thread."""
    global _is_watching
    if _is_watching or threading.current_thread() is not threading.main_thread() or not _remaining():
        return
    _is_watching = True
    os.register_at_fork(after_in_child=_begin_child)
    threading.Thread(target=_log_remaining, name="uwserve exit", daemon=True).start()


def _begin_child() -> None:
    global _is_watching
    _is_watching = False


def _remaining() -> list[threading.Thread]:
    main = threading.main_thread()
    return [thread for thread in threading.enumerate() if not thread.daemon and thread is not main]


def _log_remaining() -> None:
    threading.main_thread().join()  # it has ended: the interpreter now joins the others
    threading.Event().wait(NAME_SECONDS)
    left = _remaining()
    if left:
        shown = ", ".join(f"{thread.name!r}{place(stack(thread.ident))}" for thread in left)
        threads = "thread" if len(left) == 1 else "threads"
        _logs.warning(
            f"the process waits for {len(left)} {threads} that the application has left: {shown} "
            "(close what started them in shutdown, or make them daemons)"
        )


def stack(ident: int | None) -> Iterator[FrameType]:
    """The frames of a thread, the innermost first."""
    frame = sys._current_frames().get(ident or 0)
    while frame is not None:
        yield frame
        frame = frame.f_back


def place(frames: Iterable[FrameType]) -> str:
    """`` at FILE:LINE in FUNCTION`` of the first frame outside the standard library, else of the first at all."""
    library = os.path.dirname(os.__file__) + os.sep
    found = ""
    for frame in frames:
        name = frame.f_code.co_filename
        shown = f" at {name}:{frame.f_lineno} in {frame.f_code.co_name}"
        found = found or shown
        if "site-packages" in name or not name.startswith((library, "<frozen")):
            return shown
    return found
