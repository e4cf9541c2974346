"""All places that tell the version tell the same: ``check_version.py [TAG]`` prints it; exit code 1 when they differ.

A release has a date in CHANGELOG.md and a tag ``vVERSION``; between releases the newest entry says "unreleased".
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def declared() -> str:
    found = re.search(r'^version = "([^"]+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    return found[1] if found else ""


def newest_entry() -> tuple[str, str]:
    """Version and date of the first entry of the change log."""
    found = re.search(r"^## (\S+) - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    return (found[1], found[2]) if found else ("", "")


def problems(tag: str | None) -> list[str]:
    version, (entry, date) = declared(), newest_entry()
    found = []
    if entry != version:
        found.append(f"pyproject.toml has version {version!r}, the newest entry of CHANGELOG.md {entry!r}")
    if date != "unreleased" and not re.fullmatch(r"\d{4}-\d\d-\d\d", date):
        found.append(f"the newest entry of CHANGELOG.md has the date {date!r}, which is neither a day nor 'unreleased'")
    if tag is not None and tag != f"v{version}":
        found.append(f"the tag is {tag!r}, but pyproject.toml has version {version!r}")
    if tag is not None and date == "unreleased":
        found.append("a release has a day in CHANGELOG.md, not 'unreleased'")
    return found


def main() -> int:
    found = problems(sys.argv[1] if len(sys.argv) > 1 else None)
    print("\n".join(f"error: {problem}" for problem in found) or declared())
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
