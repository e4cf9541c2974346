"""The pytest plugin: a fixture ``serving``. It is not loaded automatically.

In ``conftest.py``, or in a test file of the root folder: ``pytest_plugins = ["uwserve.testing.plugin"]``; or
``pytest -p uwserve.testing.plugin``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ._server import LiveServer
from ._server import serving as start

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

_SERVERS: pytest.StashKey[list[LiveServer]] = pytest.StashKey()


@pytest.fixture
def serving(request: pytest.FixtureRequest) -> Iterator[Callable[..., LiveServer]]:
    """``serving(...)`` as ``uwserve.testing.serving``, any number of times; the servers stop at the end of the test.

    The test fails if a handler raises and no ``error`` handler handles it, unless ``raise_errors=False``.
    """
    servers: list[LiveServer] = []
    request.node.stash[_SERVERS] = servers

    def make(*args: Any, **options: Any) -> LiveServer:
        servers.append(start(*args, **options))
        return servers[-1]

    yield make
    failures = []
    for server in reversed(servers):
        try:
            server.__exit__(None, None, None)
        except Exception as failure:  # after the other servers are stopped, too
            failures.append(failure)
    if failures:
        raise failures[0]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, None]:
    """Let an exception of a handler fail the test itself instead of its teardown."""
    outcome = yield
    failed = outcome.excinfo[1] if outcome.excinfo else None
    if failed is not None and not isinstance(failed, Exception):  # a skip or an interrupt stays the outcome
        return
    for server in item.stash.get(_SERVERS, []):
        if server._raise_errors:
            try:
                server.raise_errors()
            except Exception as failure:
                failure.__context__ = failed  # the test's own exception is shown, too
                outcome.force_exception(failure)
                return
