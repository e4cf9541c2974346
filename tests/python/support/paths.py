"""Where things are, for tests that read the tree or start a program of it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TESTS = ROOT / "tests" / "python"
PROGRAMS = TESTS / "programs"
