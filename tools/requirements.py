"""Prints requirements of pyproject.toml: ``requirements.py EXTRA``, or ``--build NAME`` for one of the build system."""

from __future__ import annotations

import sys
from pathlib import Path

try:
    import tomllib
except ImportError:  # Python 3.10
    from pip._vendor import tomli as tomllib

PROJECT = tomllib.loads((Path(__file__).resolve().parent.parent / "pyproject.toml").read_text())

match sys.argv[1:]:
    case ["--build", name]:
        found = [r for r in PROJECT["build-system"]["requires"] if r.startswith(name)]
    case [extra]:
        found = PROJECT["project"]["optional-dependencies"][extra]
    case _:
        sys.exit(__doc__)
print("\n".join(found))
