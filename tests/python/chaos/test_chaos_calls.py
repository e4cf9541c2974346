"""Everything called from everywhere (chaos_calls.py), for a few seconds in each run mode.

``make chaos CHAOS_SECONDS=600`` runs it for longer. A failure prints its seed; ``UWSERVE_CHAOS=seed[,seed...]`` runs
others.
"""

from __future__ import annotations

import os

import pytest
from paths import PROGRAMS

pytestmark = pytest.mark.plain("the servers run in processes of their own")

PROGRAM = (PROGRAMS / "chaos_calls.py").read_text()
SEEDS = [int(seed) for seed in os.environ.get("UWSERVE_CHAOS", "1").split(",")]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mode", ["run", "start", "asyncio"])
def test_calls_of_everything_from_everywhere(script, mode, seed):
    """The process lives, each server ends, each socket closes once, and no client gets what is another's."""
    lines = script(PROGRAM, str(seed), "3", mode).finish(timeout=400).splitlines()
    assert lines == ["[] True"], f"seed {seed}"
