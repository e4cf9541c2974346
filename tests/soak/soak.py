"""Hours of mixed traffic with churn against one server process: its memory and descriptors must end where they began.

    soak.py --seconds 3600

The time is cut into phases. In each, client processes do a bit of everything (clients.py) and the servers are reloaded;
between two, when every connection has gone, the server's private memory, descriptors, Python objects and handles are
read. The first phases warm up; the last is compared with the first one after that. Exit code 1 when something
has grown, an action has failed, or the server has logged or died.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "python" / "support")]

import clients  # noqa: E402

SANITIZED = "UWSERVE_SANITIZED" in os.environ
PROCESSES = 2
# What may remain of an hour: the allocator's fragmentation, not a leak that is worth the name.
ALLOWED = {"private_kib": 6 * 1024, "descriptors": 0, "objects": 300, "handles": 0, "threads": 1}


class Server:
    def __init__(self, log: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", str(HERE / "server.py")], stdout=subprocess.PIPE, stderr=log
        )
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"error: the server did not start, exit code {self.process.wait()}")
        self.servers: list[dict[str, Any]] = json.loads(line)["servers"]

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.servers[0]['port']}{path}", timeout=30) as answer:
            return answer.read()

    def quiet(self) -> dict[str, int]:
        """Its state once the clients' connections have gone; asking takes a request and its descriptor."""
        end = time.monotonic() + 60
        while True:
            state = json.loads(self.get("/state"))
            if state["websockets"] == 0 and state["requests"] <= 1:
                # Those without a WebSocket or request (half a head, half a hello) leave a moment later.
                again = json.loads(self.get("/state"))
                if again["descriptors"] == state["descriptors"]:
                    return again
            if time.monotonic() > end:
                sys.exit(f"error: connections are left a minute after the clients have gone: {state}")
            time.sleep(0.2)

    def cpu_seconds(self) -> float:
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Workers:
    def __init__(self, servers: list[dict[str, Any]], pace: float) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipes, self.processes = [], []
        for _ in range(PROCESSES):
            ours, theirs = context.Pipe()
            self.processes.append(context.Process(target=clients.work, args=(theirs, servers, pace), daemon=True))
            self.processes[-1].start()
            self.pipes.append(ours)

    def phase(self, seconds: float, seed: str, meanwhile: Any) -> tuple[Counter[str], list[str]]:
        for i, pipe in enumerate(self.pipes):
            pipe.send((seconds, f"{seed} {i}"))
        meanwhile(time.monotonic() + seconds)
        counts: Counter[str] = Counter()
        failures = []
        for pipe in self.pipes:
            if not pipe.poll(clients.HANGS_AFTER + 30):
                sys.exit("error: a client process hangs")
            done, failed = pipe.recv()
            counts += done
            failures += failed
        return counts, failures

    def end(self) -> None:
        for pipe in self.pipes:
            pipe.send(None)
        for process in self.processes:
            process.join(10)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", default=None, help="repeats the choices of a run (default: a new one, printed)")
    parser.add_argument(
        "--pace", type=float, default=0.15, help="mean pause between two actions of a thread, in seconds"
    )
    options = parser.parse_args()
    seed = options.seed or str(random.randrange(1 << 32))
    phases = max(4, min(40, int(options.seconds / 30)))
    warm = max(1, phases // 4)
    seconds = options.seconds / phases

    with tempfile.TemporaryFile("w+") as log:
        server = Server(log)
        print(f"seed {seed}; {', '.join(one['name'] for one in server.servers)}; ", end="")
        print(f"{phases} phases of {seconds:.0f} s, {warm} of them to warm up", flush=True)
        workers = Workers(server.servers, options.pace)

        def reload_now_and_then(until: float) -> None:
            while (left := until - time.monotonic()) > 0:
                time.sleep(min(2.0, left))
                server.get("/reload")

        total: Counter[str] = Counter()
        failures: list[str] = []
        states: list[dict[str, int]] = []
        began = time.monotonic()
        names = ["private_kib", "descriptors", "objects", "handles", "threads", "refused"]
        print("phase " + "".join(f"{name:>13}" for name in [*names, "actions", "cpu s"]))
        try:
            for number in range(phases):
                counts, failed = workers.phase(seconds, f"{seed} {number}", reload_now_and_then)
                total += counts
                failures += failed
                states.append(server.quiet())
                row = [states[-1][name] for name in names] + [sum(counts.values()), round(server.cpu_seconds())]
                print(f"{number:5} " + "".join(f"{value:13}" for value in row), flush=True)
        finally:
            workers.end()
            if server.process.poll() is None:
                server.process.send_signal(signal.SIGTERM)
            try:
                code = server.process.wait(30)
            except subprocess.TimeoutExpired:
                server.process.kill()
                code = server.process.wait()
        log.seek(0)
        said = log.read()

    problems = [f"failed: {failure}" for failure in failures[:10]]
    if len(failures) > 10:
        problems.append(f"{len(failures)} actions failed in all")
    first, last = states[warm - 1], states[-1]
    for name, allowed in ALLOWED.items():
        if name == "private_kib" and SANITIZED:
            continue
        if last[name] - first[name] > allowed:
            problems.append(f"{name} has grown from {first[name]} to {last[name]} ({allowed} allowed)")
    if code:
        problems.append(f"the server ended with exit code {code}")
    if said:
        problems.append(f"the server said:\n{said[-3000:]}")
    print(f"{sum(total.values())} actions in {time.monotonic() - began:.0f} s: ", end="")
    print(", ".join(f"{name} {count}" for name, count in sorted(total.items())))
    growth = {name: last[name] - first[name] for name in ALLOWED}
    print(f"after the warm-up: {', '.join(f'{name} {value:+}' for name, value in growth.items())}")
    print("\n".join(problems) or "nothing has grown and nothing has failed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
