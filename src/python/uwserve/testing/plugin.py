"""The pytest plugin: a fixture ``serving``. Not loaded by itself.

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

    The test fails when a handler raised and no ``error`` handler took it, unless ``raise_errors=False``.
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
        except Exception as failure:  # the others are to be stopped, too
            failures.append(failure)
    if failures:
        raise failures[0]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, None]:
    """What handlers raised is the test's failure, not one of its end."""
    outcome = yield
    failed = outcome.excinfo[1] if outcome.excinfo else None
    if failed is not None and not isinstance(failed, Exception):  # skipped, interrupted: not to be replaced
        return
    for server in item.stash.get(_SERVERS, []):
        if server._raise_errors:
            try:
                server.raise_errors()
            except Exception as failure:
                failure.__context__ = failed  # what the test itself raised is shown, too
                outcome.force_exception(failure)
                return
