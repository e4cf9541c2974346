"""Each kind of interpreter gets the package, or a clear ImportError: never a deadlock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import uwserve

pytestmark = pytest.mark.plain("nothing of the protocol is in it")

PACKAGES = str(Path(uwserve.__file__).resolve().parents[1])
SCRIPT = """
import sys, threading
PACKAGES = sys.argv[1]
INNER = f'''
import sys
sys.path.insert(0, {PACKAGES!r})
for attempt in range(2):
    try:
        import uwserve
    except ImportError as exc:
        print("ImportError:", exc, flush=True)
'''
kind = sys.argv[2]
if "imported" in kind:
    sys.path.insert(0, PACKAGES)
    import uwserve

def run():
    try:
        import _interpreters as interpreters  # 3.13
        made = interpreters.create("isolated" if "isolated" in kind else "legacy")
        failed = interpreters.run_string(made, INNER)
    except ModuleNotFoundError:
        import _xxsubinterpreters as interpreters
        made = interpreters.create(isolated="isolated" in kind)
        failed = interpreters.run_string(made, INNER)
    if failed:
        print(failed)
    interpreters.destroy(made)

if "thread" in kind:
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
else:
    run()
sys.path.insert(0, PACKAGES)
import uwserve
server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda request: "main")
print(server.start().stop(True).wait(20))
"""


@pytest.mark.parametrize("kind", ["legacy", "isolated", "legacy imported", "isolated imported", "legacy thread"])
def test_a_subinterpreter(kind: str) -> None:
    """ImportError there, also at the second attempt; the main one is not harmed."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, PACKAGES, kind], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    *refused, served = done.stdout.splitlines()
    assert len(refused) == 2, done
    for line in refused:
        assert line.startswith("ImportError:"), done
        assert "subinterpreter" in line, done
    assert served == "True"
