"""What is installed from source compiles for everybody: GCC and Clang, with and without libdeflate, old pips and new.

`make compilers` builds the whole sdist in each combination. Here is what costs seconds: a few sources by the compiler
that developers do not use, the one file that libdeflate changes in every combination, and the flags that users get.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from paths import ROOT

CPP = ROOT / "src" / "cpp"
FLAGS = ["-fsyntax-only", "-std=c++20", "-Wall", "-Wextra", "-Werror", "-DOPENSSL_NO_DEPRECATED"]
INCLUDES = [f"-I{CPP}", f"-I{CPP / 'usockets'}"]
pytestmark = pytest.mark.plain("compilers, not servers")


def compiler(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: it was not tried")
    return found


def complaints(command: list[str], sources: list[Path]) -> list[str]:
    found = []
    for source in sources:
        done = subprocess.run([*command, *FLAGS, *INCLUDES, source], capture_output=True, text=True, check=False)
        if done.returncode:
            found.append(done.stderr)
    return found


@pytest.mark.parametrize(("name", "libdeflate"), [*itertools.product(["g++", "clang++"], [False, True])])
def test_libdeflate_is_optional_to_each_compiler(name: str, libdeflate: bool) -> None:
    command = [compiler(name)]
    source = '#include "uws/deflate/fast.h"\nuwserve::FastDeflater made;\n'
    if libdeflate:
        probe = subprocess.run(
            [*command, "-E", "-x", "c++", "-"], input=b"#include <libdeflate.h>", capture_output=True
        )
        if probe.returncode:
            pytest.skip("libdeflate.h is not installed: the build with it was not tried")
        command.append("-DUWSERVE_LIBDEFLATE")
    assert complaints(command, [CPP / "uws" / "deflate" / "fast.cpp"]) == []
    alone = [*command, *FLAGS, *INCLUDES, "-x", "c++", "-"]
    assert subprocess.run(alone, input=source, capture_output=True, text=True, check=False).stderr == ""


def test_clang_has_nothing_to_say() -> None:
    """A sample of each layer that needs no header of others."""
    names = ["usockets/tls/config", "usockets/loop/loop", "uws/http/head", "uws/websocket/utf8", "uws/deflate/block"]
    assert complaints([compiler("clang++")], [CPP / f"{name}.cpp" for name in names]) == []


@pytest.mark.parametrize("name", ["g++", "clang++"])
def test_attributes_that_both_compilers_know(name: str) -> None:
    """What each would warn of as unknown if it were spelled for the other."""
    python = sysconfig.get_paths()["include"]
    if not Path(python, "Python.h").exists():
        pytest.skip("Python.h is not installed: what includes it was not tried")
    command = [compiler(name), *FLAGS, *INCLUDES, "-isystem", python, "-x", "c++", "-"]
    source = '#include "py/interpreter/at_exit.h"\nint one() { return uwserve::until_exit([] { return 1; }); }\n'
    assert subprocess.run(command, input=source, capture_output=True, text=True, check=False).stderr == ""


def flags(folder: Path, *options: str) -> set[str]:
    """Of everything that a build with these options would compile."""
    cmake = shutil.which("cmake", path=str(Path(sys.executable).parent)) or shutil.which("cmake")
    if cmake is None:
        pytest.skip("there is no cmake to ask")
    headers = folder / "headers"  # nothing is compiled
    headers.mkdir(exist_ok=True)
    (headers / "App.h").touch()
    build = folder / "build"
    configure = [cmake, "-S", ROOT, "-B", build, f"-DUWEBSOCKETS_INCLUDE_DIR={headers}", "-DUWSERVE_BUILD_PYTHON=OFF"]
    done = subprocess.run([*configure, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    commands = json.loads((build / "compile_commands.json").read_text())
    assert len(commands) > 30
    return {flag for entry in commands for flag in entry["command"].split()}


def test_warnings_are_errors_to_developers_only(tmp_path: Path) -> None:
    """A compiler that is newer than ours may have new warnings: they must not fail a user's build."""
    assert {"-Wall", "-Wextra"} <= (found := flags(tmp_path))
    assert "-Werror" not in found
    assert "-Werror" in flags(tmp_path, "-DUWSERVE_WERROR=ON")
    presets = {
        preset["name"]: preset for preset in json.loads((ROOT / "CMakePresets.json").read_text())["configurePresets"]
    }
    assert presets["base"]["cacheVariables"]["UWSERVE_WERROR"] == "ON"


def test_the_short_option_of_pip_is_used_only_where_pip_is_new_enough() -> None:
    """pip 23.0, of Debian 12, does not know -C: our environments get a newer pip, users may not have one."""
    assert '"pip>=23.1"' in (ROOT / "tools" / "make_environment.sh").read_text()
    for name in ("pyproject.toml", "README.md", "CONTRIBUTING.md"):
        text = (ROOT / name).read_text().replace("\\\n", " ")
        for line in text.splitlines():
            is_pip = re.search(r"\bpip\b|\(PIP\)|profile_guided\.sh", line, re.IGNORECASE)
            assert not (is_pip and re.search(r"\s-C[ =]", line)), (name, line)
