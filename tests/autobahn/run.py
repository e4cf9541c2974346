"""Autobahn's fuzzing client against an echo server: a table by section, exit code 1 unless every case is OK.

    run.py                       every section of 1-10, 12 and 13 against uwserve
    run.py 1 7 9.1 12.1.3        these sections or cases only
    run.py --server websockets   another server of echo.py; --command "..." any program that prints its port

A case is OK when Autobahn says OK for the messages and for the closing handshake; INFORMATIONAL, which Autobahn gives
where the RFC leaves the behaviour open, passes as well. NON-STRICT, UNIMPLEMENTED, FAILED and whatever else do not.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import importlib
import select
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SECTIONS = {
    "1": "Framing",
    "2": "Pings and pongs",
    "3": "Reserved bits",
    "4": "Opcodes",
    "5": "Fragmentation",
    "6": "UTF-8",
    "7": "Closing",
    "9": "Large messages, performance",
    "10": "Unsolicited shapes",
    "12": "permessage-deflate, one setting",
    "13": "permessage-deflate, settings",
}
PASSED = ("OK", "INFORMATIONAL")
COLUMNS = ("OK", "INFORMATIONAL", "NON-STRICT", "UNIMPLEMENTED", "FAILED")


def verdict(result: Any) -> str:
    """One word for a case: the worse of what Autobahn says of its messages and of its end."""
    behaviour, close = result.behavior.value, result.behavior_close.value
    if behaviour not in PASSED:
        return behaviour if behaviour in COLUMNS else "FAILED"
    if close not in PASSED:
        return "FAILED"
    return behaviour


def glob(name: str) -> str:
    """What kosoku calls it. In sections 2, 3 and 5 a case has two numbers, elsewhere three."""
    numbers = 2 if name.split(".")[0] in ("2", "3", "5") else 3
    return name if name.count(".") == numbers - 1 else f"{name}.*"


def mend_plain_messages() -> None:
    """kosoku hands text that came uncompressed to its cases as str; those of 12 and 13 hash it.

    A server may leave uncompressed what would not get smaller (RFC 7692 section 6); Python 2 saw no difference.
    """
    from kosoku._caseindex import initialize_shims

    initialize_shims()
    module = importlib.import_module("case12_x_x")
    plain = module.onMessage

    def on_message(case: Any, message: str | bytes, binary: bool) -> None:
        plain(case, message.encode() if isinstance(message, str) else message, binary)

    for case in [*module.Case12_X_X, *module.Case13_X_X]:
        case.onMessage = on_message


async def fuzz(port: int, wanted: list[str], seconds: float, parallel: int) -> list[Any]:
    from kosoku import FailureError, run_fuzzingclient

    mend_plain_messages()
    run = run_fuzzingclient(
        f"ws://127.0.0.1:{port}", [glob(name) for name in wanted or SECTIONS], None, concurrency=parallel
    )
    try:
        return list(await asyncio.wait_for(run, seconds))
    except FailureError as failure:
        return list(failure.results)


def table(results: list[Any]) -> str:
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for result in results:
        counts[result.case_id.split(".")[0]][verdict(result)] += 1
    total: collections.Counter[str] = sum(counts.values(), collections.Counter())
    lines = [f"{'section':38}" + "".join(f"{name:>15}" for name in COLUMNS)]
    rows = [(f"{key:>3} {SECTIONS.get(key, '')}", counts[key]) for key in sorted(counts, key=int)]
    for name, row in [*rows, ("all", total)]:
        lines.append(f"{name:38}" + "".join(f"{row[column] or '-':>15}" for column in COLUMNS))
    return "\n".join(lines)


def explain(result: Any) -> str:
    close = f"close {result.remote_close_code} ({result.behavior_close.value}: {result.result_close})"
    description = " ".join(result.description.split())[:100]
    return f"  {result.case_id:8} {verdict(result)}: {description}\n           {result.result} {close}"


def start(command: list[str]) -> tuple[subprocess.Popen[bytes], int]:
    server = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert server.stdout
    if not select.select([server.stdout], [], [], 30)[0]:
        server.kill()
        sys.exit("error: the echo server did not print its port within 30 s")
    line = server.stdout.readline()
    if not line.strip().isdigit():
        server.kill()
        sys.exit(f"error: the echo server did not start: {line!r}, exit code {server.wait()}")
    return server, int(line)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help="sections (9), subsections (9.1) or cases (9.1.1)")
    parser.add_argument("--server", default="uwserve", help="a server of echo.py (default: uwserve)")
    parser.add_argument("--command", help="a program that prints the port of its echo server")
    parser.add_argument("--seconds", type=float, default=900, help="give up after this long (default: 900)")
    parser.add_argument("--parallel", type=int, default=4, help="cases at a time (default: 4)")
    options = parser.parse_intermixed_args()

    own = [sys.executable, str(Path(__file__).with_name("echo.py")), options.server]
    server, port = start(shlex.split(options.command) if options.command else own)
    began = time.monotonic()
    try:
        results = asyncio.run(fuzz(port, options.sections, options.seconds, options.parallel))
        code = server.poll()
    except TimeoutError:
        sys.exit(f"error: not done after {options.seconds:.0f} s")
    finally:
        server.kill()
        server.wait()

    bad = [result for result in results if verdict(result) not in PASSED]
    print(table(results))
    print(f"{len(results)} cases in {time.monotonic() - began:.0f} s against {options.command or options.server}")
    if bad:
        missing = [result for result in bad if verdict(result) == "UNIMPLEMENTED"]
        print(f"\n{len(bad)} cases are not OK, {len(missing)} of them unimplemented. The others:")
        print(*(explain(result) for result in bad if result not in missing), sep="\n")
    if code is not None:
        print(f"\nthe echo server ended by itself with exit code {code}")
    if not results:
        print("no case has that name")
    return 1 if bad or code is not None or not results else 0


if __name__ == "__main__":
    sys.exit(main())
