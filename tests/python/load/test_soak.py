"""A short soak: mixed traffic with churn, nothing grows and nothing fails (``make soak`` does it for an hour)."""

from __future__ import annotations

import subprocess
import sys

from paths import ROOT

SOAK = ROOT / "tests" / "soak" / "soak.py"


def test_a_short_soak():
    run = subprocess.run(
        [sys.executable, str(SOAK), "--seconds", "16", "--seed", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=115,
        check=False,
    )
    print(run.stdout)
    assert run.returncode == 0, run.stdout[-4000:]
