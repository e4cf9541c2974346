"""Checks that mypy and pyright refuse what they must in ``bad``: python tests/typing/check.py.

A line there that ends in ``# E: mypy(code, ...) pyright(rule, ...)`` must be refused by both with exactly these codes,
every other line by none: a check fails when an expected error disappears and when a new one appears. An error that
spans several lines counts for its first. ``--write`` notes what the checkers say now, to be read before it is
committed.

A comment line ``# names: "text"`` above such a line is what mypy's first line, and pyright's message, must have in
them: the mistake by its name. And what mypy says of one line, notes included, must be short enough to be read.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "typing" / "bad"
BIN = Path(sys.executable).parent

LONGEST = 2000
"""Characters of what mypy says of one line of code."""

Codes = dict[str, frozenset[str]]
"""The codes of a line, by checker."""
Errors = dict[tuple[str, int], Codes]
"""By file and line."""

EXPECTED = re.compile(r"\s*# E: (?P<codes>.*)$")
OF_CHECKER = re.compile(r"(mypy|pyright)\(([^()]*)\)")


NAMES = re.compile(r'^# names: "(.*)"$')
Messages = dict[tuple[str, int], dict[str, list[str]]]
"""What the checkers say, in their words, by file and line."""


def output(*command: str | Path) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        sys.exit(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


Told = tuple[str, int, str, str]
"""The file, the line, the code and the message."""


def of_mypy() -> Iterator[Told]:
    for line in output(BIN / "mypy", "--output", "json", FOLDER).splitlines():
        if not line.startswith("{"):
            continue
        told = json.loads(line)
        if told["severity"] == "error":
            text = f"{told['message']}\n{told['hint'] or ''}"  # its notes are hints here
            yield Path(told["file"]).name, told["line"], told["code"], text.strip()


def of_pyright() -> Iterator[Told]:
    told = json.loads(output(BIN / "basedpyright", "--outputjson", "--project", FOLDER))
    if told["summary"]["filesAnalyzed"] < len(list(FOLDER.glob("*.py"))):
        sys.exit("basedpyright has not looked at every file")
    for one in told["generalDiagnostics"]:
        if one["severity"] == "error":
            yield Path(one["file"]).name, one["range"]["start"]["line"] + 1, one.get("rule", "syntax"), one["message"]


def found() -> tuple[Errors, Messages]:
    errors: defaultdict[tuple[str, int], defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    messages: Messages = {}
    for checker, listed in (("mypy", of_mypy()), ("pyright", of_pyright())):
        for name, line, code, text in listed:
            errors[name, line][checker].add(code)
            messages.setdefault((name, line), {}).setdefault(checker, []).append(text)
    return {
        place: {checker: frozenset(codes) for checker, codes in of.items()} for place, of in errors.items()
    }, messages


def unnamed(messages: Messages) -> Iterator[str]:
    """What is wrong with the words of the checkers."""
    for path in sorted(FOLDER.glob("*.py")):
        wanted = ""
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if match := NAMES.match(line):
                wanted = match[1]
                continue
            said = messages.get((path.name, number), {})
            for checker, texts in said.items():
                said_first = texts[0].partition("\n")[0] if checker == "mypy" else texts[0]
                if wanted and wanted not in said_first:
                    yield f"{path.name}:{number}: {checker} does not name {wanted!r}: {said_first}"
            length = len("\n".join(said.get("mypy", [])))
            if length > LONGEST:
                yield f"{path.name}:{number}: mypy says {length} characters"
            wanted = ""


def expected() -> Errors:
    errors: Errors = {}
    for path in sorted(FOLDER.glob("*.py")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = EXPECTED.search(line)
            if match:
                codes = {name: frozenset(re.findall(r"[\w-]+", of)) for name, of in OF_CHECKER.findall(match["codes"])}
                errors[path.name, number] = codes
    return errors


def spelled(codes: Codes) -> str:
    return " ".join(f"{checker}({', '.join(sorted(of))})" for checker, of in sorted(codes.items()))


def write(errors: Errors) -> None:
    for path in sorted(FOLDER.glob("*.py")):
        lines = [EXPECTED.sub("", line) for line in path.read_text().splitlines()]
        for number, line in enumerate(lines, 1):
            if (path.name, number) in errors:
                lines[number - 1] = f"{line}  # E: {spelled(errors[path.name, number])}"
        path.write_text("\n".join(lines) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Compare what mypy and pyright say of tests/typing/bad with its comments."
    )
    parser.add_argument("--write", action="store_true", help="note what they say in the comments instead")
    arguments = parser.parse_args()
    errors, messages = found()
    if arguments.write:
        write(errors)
    wanted = expected()
    wrong = 0
    for name, line in sorted(errors.keys() | wanted.keys()):
        is_, should = errors.get((name, line), {}), wanted.get((name, line), {})
        if is_ != should or len(is_) < 2:
            wrong += 1
            print(f"{name}:{line}: expected {spelled(should) or 'no error'}, found {spelled(is_) or 'none'}")
    for text in unnamed(messages):
        wrong += 1
        print(text)
    print(f"{len(wanted)} lines must be refused by mypy and pyright, {wrong} differ")
    return 1 if wrong or not wanted else 0


if __name__ == "__main__":
    sys.exit(main())
