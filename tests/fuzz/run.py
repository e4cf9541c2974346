"""Runs the fuzz targets of a build folder, each for a while: ``run.py BUILD [--seconds N] [TARGET...]``.

Starts from the seeds and the committed corpus, keeps what it learns in BUILD/grown/<target> for the next time, and puts
inputs that crash, hang (over 10 s) or leak into BUILD/findings/<target>. Exit code 1 when there are any.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def fuzz(build: Path, target: str, seconds: int) -> bool:
    """Whether nothing was found."""
    program = build / "tests/fuzz" / f"fuzz_{target}"
    grown, findings = build / "grown" / target, build / "findings" / target
    for folder in (grown, findings):
        folder.mkdir(parents=True, exist_ok=True)
    like = target.removesuffix("_zlib")  # built twice, of one source
    command = [
        str(program),
        f"-max_total_time={seconds}",
        "-timeout=10",
        "-rss_limit_mb=3000",
        f"-artifact_prefix={findings}/",
        "-print_final_stats=1",
        "-max_len=8192",
        str(grown),
        str(build / "tests/fuzz/seeds" / like),
    ]
    dictionary, corpus = HERE / f"{like}.dict", HERE / "corpus" / like
    if dictionary.exists():
        command.insert(1, f"-dict={dictionary}")
    if corpus.exists():
        command.append(str(corpus))
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1"}
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    output = run.stdout.decode(errors="replace")
    executions = re.search(r"number_of_executed_units: *(\d+)", output)
    covered = re.findall(r"cov: (\d+)", output)
    print(
        f"{target:16} {executions.group(1) if executions else '?':>10} runs in {seconds} s, "
        f"{covered[-1] if covered else '?'} edges covered, {'nothing found' if run.returncode == 0 else 'FAILED'}",
        flush=True,
    )
    if run.returncode:
        print(output[-6000:])
    return run.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_intermixed_args()
    built = sorted(path.name.removeprefix("fuzz_") for path in (options.build / "tests/fuzz").glob("fuzz_*[a-z]"))
    targets = options.targets or [name for name in built if (options.build / "tests/fuzz" / f"fuzz_{name}").is_file()]
    if not targets:
        sys.exit(f"error: no fuzz target in {options.build}")
    failed = [target for target in targets if not fuzz(options.build.resolve(), target, options.seconds)]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
