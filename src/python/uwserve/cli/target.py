"""``module:attribute``: finding it, and making it a server under the options of the command line."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from .. import Server, _logs, serve
from .._options import own_pages
from .._options.serve import SERVE
from .._run import tasks
from . import candidates, environment
from .errors import CommandError, UsageError
from .parser import listen_options, other_options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

WHERE = ("port", "hostname", "unix", "unix_mode", "fd")


def load(arguments: argparse.Namespace) -> Server:
    """The bound server. ``CommandError`` for what goes wrong, with a traceback for what the application raises."""
    target = arguments.target
    module_name, colon, attribute = target.partition(":")
    if not colon or not module_name or not attribute or "/" in module_name or module_name.endswith(".py"):
        raise UsageError(f"{target!r} is not of the form module:attribute{candidates.hint_of_form(target)}")
    where, others = listen_options(arguments), other_options(arguments)
    left_open = environment.open_places(arguments.environment | os.environ)
    loop = None  # of an async factory
    try:
        value = _find(module_name, attribute)
        if isinstance(value, Server) and value.finished:
            raise CommandError(
                f"{target}: the server has run, and stopped, while its module was imported: "
                'put server.run() under if __name__ == "__main__"'
            )
        if callable(value):
            value, loop = tasks.run_factory(value())
    except OSError as error:  # most often the address is in use
        raise CommandError(f"{target}: {error}") from error
    except CommandError:
        raise
    except Exception as error:
        raise CommandError(f"{target} failed: {type(error).__name__}: {error}", traceback=True) from error
    try:
        server = _server(target, value, where, others, left_open)
        if loop is not None:
            server._control.runner.adopt(loop)
        return server
    except BaseException:
        if loop is not None:
            tasks.close_event_loop(loop)
        raise


def _server(
    target: str, value: object, where: dict[str, Any], others: dict[str, Any], left_open: dict[str, Any]
) -> Server:
    if isinstance(value, dict):
        options = replaced(value, where | others)
        if "unix" not in options and "fd" not in options:
            options = {name: place for name, place in left_open.items() if name not in options} | options
        return bind(target, options)
    if not isinstance(value, Server):
        raise CommandError(
            f"{target} must be a Server, a dict of options or a function that returns one, got {type(value).__name__}"
        )
    if value.running or value.finished:
        raise CommandError(f"{target}: the server is {'stopped' if value.finished else 'running'} already")
    _change(target, value, where, others)
    if left_open.get("port") not in (None, value.port):
        _logs.warning(
            f"PORT={left_open['port']} in the environment is not used: {target} is a Server, bound to {value.url} when "
            "it was made. Let it be a dict of serve()'s options, or a function that returns one"
        )
    return value


def bind(target: str, options: Mapping[str, Any]) -> Server:
    """``serve(options)``, with errors reported in one line."""
    try:
        return serve(dict(options))
    except OSError as error:
        raise cannot_listen("cannot listen" if target == "echo" else target, error, options) from error
    except (TypeError, ValueError, ImportError) as error:
        raise CommandError(f"{target}: {error}") from error


def cannot_listen(what: str, error: OSError, options: Mapping[str, Any]) -> CommandError:
    """The error of a ``serve(options)``; with the option that helps when another process has the address."""
    flag = "unix" if options.get("unix") is not None else "port"
    hint = f" (--{flag} chooses another)" if error.errno == errno.EADDRINUSE else ""
    return CommandError(f"{what}: {error}{hint}")


def replaced(options: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A dict's options, in either spelling, under those ``given``; one place to listen at replaces all others."""
    gone = set(given)
    if "fd" in given or "unix" in given:
        gone |= {*WHERE, "reuse_port", "ipv6_only"} - ({"unix_mode"} if "unix" in given else set())
    elif "port" in given or "hostname" in given:
        gone |= {"unix", "unix_mode", "fd"}
    kept = {name: value for name, value in options.items() if SERVE.aliases.get(name, name) not in gone}
    if "dashboard" in given:
        given = {**given, "dashboard": _merged(options.get("dashboard"), given["dashboard"])}
    return {**kept, **given}


def _merged(own: object, given: Mapping[str, Any]) -> dict[str, Any]:
    """``--dashboard`` over the application's own: what the command line leaves open stays."""
    if isinstance(own, own_pages.Settings):
        own = own._asdict()
    elif isinstance(own, str):
        own = {"path": own}
    return {**own, **given} if isinstance(own, dict) else dict(given)


def _change(target: str, server: Server, where: Mapping[str, Any], others: Mapping[str, Any]) -> None:
    """Options for a Server that the application has bound."""
    fixed = [*where, *(name for name in others if SERVE[name].fixed)]
    if fixed:
        flags = " and ".join("--" + {"hostname": "host"}.get(name, name).replace("_", "-") for name in fixed)
        raise UsageError(
            f"{target} is a Server, bound to {server.url} when it was made: {flags} cannot move it. "
            "Let it be a dict of serve()'s options, or a function that returns one"
        )
    if "tls" in others and server._control.options["tls"] is None:
        raise UsageError(
            f"{target} is a Server that was made without TLS, which --tls-cert cannot switch on. "
            "Let it be a dict of serve()'s options, or a function that returns one"
        )
    if "dashboard" in others:
        others = {**others, "dashboard": _merged(server._control.options["dashboard"], others["dashboard"])}
    try:
        if others:
            server.reload(**others)
    except (OSError, TypeError, ValueError, ImportError) as error:
        raise CommandError(f"{target}: {error}") from error


def _find(module_name: str, attribute: str) -> Any:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        value = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise  # a module that it imports is missing: the traceback tells where
        raise CommandError(
            f"there is no module {error.name!r} (looked in {os.getcwd()} and the installed ones)"
            f"{candidates.hint_of_module(error.name)}"
        ) from None
    for name in attribute.split("."):
        try:
            value = getattr(value, name)
        except AttributeError:
            hint = candidates.hint_of_attribute(sys.modules[module_name], attribute)
            raise CommandError(f"module {module_name!r} has no attribute {attribute!r}{hint}") from None
    return value
