"""The benchmarks' own logic, and that what they compare does the same, told by a real client."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme
from paths import ROOT

BENCHMARKS = ROOT / "benchmarks"

pytestmark = pytest.mark.plain("the servers run in processes of their own, with and without TLS")


@pytest.fixture(scope="module", autouse=True)
def importable() -> Any:
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


def echoed(per_second: float, user: float = 1.0, messages: int = 100) -> dict:
    cpu = {"user_us": user, "system_us": 2.0, "core_share": 0.9}
    return {"messages": messages, "messages_per_second": per_second, "server_cpu": cpu, "load_cpu": cpu} | {
        "latency_us": {"p50": 10.0, "p99": 20.0}
    }


def held(per_second: float, size: float) -> dict:
    return {"handshakes_per_second": per_second, "pss_bytes_each": size, "server_cpu": echoed(1)["server_cpu"]}


def document(medians: dict) -> dict:
    import goals

    return {
        "date": "2026-01-02T03:04:05+00:00",
        "machine": {"cpu": "a processor", "cores": 2, "kernel": "6.1"},
        "versions": {"uwserve": "0.1.0"},
        "method": {"rounds": 3},
        "goals": goals.reached(medians),
        "medians": medians,
        "once": {},
        "unable": {},
        "skipped": {},
        "errors": [],
    }


# --- medians ---


def test_medians_are_taken_of_each_figure_and_cpu_over_all_messages() -> None:
    from results import middle

    rounds = [echoed(10, 1.0, 100), echoed(30, 4.0, 300), echoed(20, 2.0, 100)]
    found = middle(rounds)
    assert found["messages_per_second"] == 20
    assert found["server_cpu"]["user_us"] == pytest.approx((100 * 1 + 300 * 4 + 100 * 2) / 500)
    assert found["server_cpu"]["core_share"] == 0.9
    assert found["latency_us"]["p99"] == 20


def test_who_is_out_of_reach_is_not_measured_again() -> None:
    from cases import CASES
    from results import Results

    case = CASES[0]
    results = Results()
    speeds = {"uws-c++": 1, "uwserve": 1, "bun": 1, "node-ws": 50, "picows": 100, "aiohttp": 61, "tornado": 59}
    speeds["socketify"] = 300  # on uWebSockets: nobody else is measured by it alone
    for name, speed in speeds.items():
        results.add(case.name, name, echoed(speed))
    results.drop_hopeless(case)
    assert results.once[case.name] == ["tornado"]
    assert results.is_wanted(case, "aiohttp")
    assert not results.is_wanted(case, "tornado")
    results.cannot(case.name, "aiohttp", "a reason")
    assert not results.is_wanted(case, "aiohttp")


def test_the_leanest_is_kept_although_it_is_slow() -> None:
    from cases import CASES
    from results import Results

    case = next(c for c in CASES if c.name == "hold 10,000")
    results = Results()
    for name, measured in {"picows": held(100, 9000), "aiohttp": held(10, 3000), "granian": held(10, 9000)}.items():
        results.add(case.name, name, measured)
    results.drop_hopeless(case)
    assert results.once[case.name] == ["granian"]


# --- goals ---


def one_goal(goal: Any, measured: dict) -> dict:
    import goals

    row = goals._reached(goal, measured)
    assert row is not None
    return row


@pytest.mark.parametrize(("ours", "met"), [(80, True), (79.9, False)])
def test_a_goal_of_throughput(ours: float, met: bool) -> None:
    """The best Python server counts, and neither Bun nor uwserve's own second form."""
    from goals import Goal

    measured = {"uwserve": echoed(ours), "bun": echoed(500), "uwserve-async": echoed(900)}
    measured |= {"picows": echoed(10), "aiohttp": echoed(8), "socketify": echoed(40)}
    goal = Goal("a case", "throughput", 8, "the best Python server without uWebSockets")
    row = one_goal(goal, measured)
    assert (row["reference"], row["at_least"], row["met"]) == ("picows", 80, met)
    assert row["ratio"] == pytest.approx(ours / 10)
    assert row["goal"] == "throughput at least 8 x the best Python server without uWebSockets"
    other = one_goal(Goal("a case", "throughput", 1, "the best other Python server"), measured)
    assert other["reference"] == "socketify"


def test_a_goal_of_cost() -> None:
    """Less is better: the best is the least."""
    from goals import Goal

    measured = {"uwserve": held(1, 500), "picows": held(1, 9000), "aiohttp": held(1, 1000), "uws-c++": held(1, 1)}
    row = one_goal(Goal("a case", "memory", 0.5, "the leanest Python rival"), measured)
    assert (row["reference"], row["at_most"], row["met"]) == ("aiohttp", 500, True)
    assert one_goal(Goal("a case", "memory", 499), measured)["met"] is False


def test_a_goal_without_anybody_to_compare_with_is_not_met_and_not_missed() -> None:
    from goals import Goal

    assert one_goal(Goal("a case", "throughput", 1, "bun"), {"uwserve": echoed(1)})["met"] is None


def test_the_goals_are_of_cases_that_are_measured() -> None:
    from cases import CASES, IMPORT
    from goals import FIGURES, GOALS, REFERENCES

    names = {case.name for case in CASES} | {IMPORT}
    for goal in GOALS:
        assert goal.case in names and goal.figure in FIGURES
        assert goal.reference is None or goal.reference in REFERENCES


def test_results_are_written_with_a_line_for_each_case_and_server(tmp_path: Path) -> None:
    import recorded

    shown = document({"echo": {"bun": echoed(1.5, messages=20), "uwserve": echoed(2.5, messages=20)}})
    recorded.write(shown, tmp_path / "results.json", 3)
    written = (tmp_path / "results.json").read_text()
    assert json.loads(written) == shown
    for name, figures in shown["medians"]["echo"].items():
        assert f'   "{name}": {json.dumps(figures)}' in written
    assert recorded.text([{"key": "v" * 120}, []], 9) == '[\n {"key": "' + "v" * 120 + '"},\n []\n]'


# --- growth ---


def test_slopes_mark_what_grows_faster_than_its_cause() -> None:
    from growth import slopes

    def curve(*costs: float) -> list[dict]:
        return [{"x": 10**i, "cpu_us": cost} for i, cost in enumerate(costs)]

    steps = slopes(curve(2, 2, 20), is_whole=False)
    assert [step["exponent"] for step in steps] == pytest.approx([1, 2])
    assert [step["steep"] for step in steps] == [False, True]
    steps = slopes(curve(1, 10, 10 * 10**1.2), is_whole=True)
    assert [step["exponent"] for step in steps] == pytest.approx([1, 1.2])
    assert [step["steep"] for step in steps] == [False, True]
    assert slopes(curve(0, 5), is_whole=True) == []  # too little to be counted: no slope, and no error


# --- what is shown ---


def made_up() -> dict:
    return {
        "echo 200 x 20 B": {"uws-c++": echoed(200_000), "uwserve": echoed(190_000), "picows": echoed(90_000, 3.0)},
        "hold 10,000": {"uws-c++": held(20_000, 300), "uwserve": held(19_000, 500), "aiohttp": held(900, 20_000)},
    }


def test_the_table_of_the_readme() -> None:
    from table import markdown

    lines = markdown(document(made_up())).splitlines()
    assert (
        "| echo, 200 connections, 20 bytes: messages/s | 200,000 | **190,000 (0.95)** | - | picows 90,000 (0.45) | "
        "picows 90,000 (0.45) |" in lines
    )
    assert "| handshakes/s | 20,000 | **19,000 (0.95)** | - | aiohttp 900 (0.045) | aiohttp 900 (0.045) |" in lines


def test_the_table_marks_what_was_measured_once() -> None:
    from table import markdown

    shown = document(made_up())
    shown["once"] = {"hold 10,000": ["aiohttp"]}
    shown["versions"]["build"] = {"codec": "zlib 1", "libc": "2", "pgo": "USE"}
    lines = markdown(shown).splitlines()
    assert (
        "| handshakes/s | 20,000 | **19,000 (0.95)** | - | aiohttp 900 (0.045) \\* | aiohttp 900 (0.045) \\* |" in lines
    )
    assert sum(line.startswith("\\* measured in the first round only") for line in lines) == 1
    assert lines[-1].endswith("uwserve 0.1.0, build: codec zlib 1, pgo USE.")


@pytest.mark.parametrize("program", ["table", "charts"])
def test_without_results(program: str, tmp_path: Path) -> None:
    if program == "charts" and importlib.util.find_spec("matplotlib") is None:
        pytest.skip("matplotlib is not installed")
    code = f"import sys, pathlib, {program} as p; p.HERE = pathlib.Path(sys.argv.pop()); p.main()"
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, "-c: error: there are no results yet: make bench")


def test_versions_tell_how_the_package_was_built() -> None:
    import machine

    from uwserve import _core

    assert machine.versions()["build"] == {"codec": _core.codec} | _core.build


def test_the_report_tells_every_server_goal_and_reason() -> None:
    import report

    shown = document(made_up())
    shown["once"] = {"hold 10,000": ["aiohttp"]}
    shown["unable"] = {"hold 10,000": {"granian": "a reason"}}
    text = report.whole(shown)
    assert "aiohttp *" in text and "a reason" in text
    assert text.count("\n  echo 200 x 20 B  ") == 3  # goals; two have somebody to be compared with
    assert "not known" in text and "met" in text


def test_charts_are_drawn_the_same_from_the_same_results(tmp_path: Path) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        pytest.skip("matplotlib is not installed")
    points = [{"x": 10**i, "cpu_us": 5.0 + i, "per_second": 1.0} for i in range(4)]
    grown = {
        "date": "2026-01-02T03:04:05+00:00",
        "curves": {"connections": {"servers": {"uwserve": points, "bun": points}, "is_whole": False}},
    }
    (tmp_path / "results.json").write_text(json.dumps(document(made_up())))
    (tmp_path / "growth.json").write_text(json.dumps(grown))
    drawn = []
    for name in ("one", "two"):
        command = [sys.executable, str(BENCHMARKS / "charts.py"), "--results", str(tmp_path / "results.json")]
        command += ["--growth", str(tmp_path / "growth.json"), "--folder", str(tmp_path / name)]
        subprocess.run(command, check=True, capture_output=True, timeout=90)
        drawn.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert drawn[0] == drawn[1]
    assert set(drawn[0]) == {"echo.svg", "connections.svg", "cpu.svg", "growth.svg"}
    echo = drawn[0]["echo.svg"].decode()
    assert "190 k" in echo and "uWebSockets (C++)" in echo and "<title>Echo" in echo


def test_labels_have_three_digits() -> None:
    if importlib.util.find_spec("matplotlib") is None:
        pytest.skip("matplotlib is not installed")
    code = "import charts; print(*map(charts.label, (2_345_678, 123_456, 12_345, 1234.5, 12.34, 0.456)), sep='|')"
    done = subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, timeout=90)
    assert done.stdout == "2.35 M|123 k|12.3 k|1,234|12.3|0.456\n", done.stderr
    assert math.isclose(0.456, float(done.stdout.rpartition("|")[2]))


# --- servers ---


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """(authority, certificate, key)."""
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "authority.pem", folder / "cert.pem", folder / "key.pem"
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(files[0])
    server.cert_chain_pems[0].write_to_path(files[1])
    server.private_key_pem.write_to_path(files[2])
    return files


@pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflate"])
@pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
@pytest.mark.parametrize("name", ["uwserve", "uwserve_async", "aiohttp", "websockets"])
def test_a_server_answers_as_it_should(
    name: str, tls: bool, deflate: bool, certificate: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    from conversation import converse
    from programs import Server, running

    server = Server(name, (sys.executable, str(BENCHMARKS / "servers" / f"{name}_echo.py")), "")
    authority, *files = certificate
    arguments = [*(["--tls", *files] if tls else []), *(["--deflate"] if deflate else [])]
    with running(server, None, tmp_path / "log", *arguments) as (_, port):
        asyncio.run(converse(port, authority if tls else None, deflate))


def test_the_conversation_sees_a_wrong_answer(tmp_path: Path) -> None:
    """A server that compresses nothing, and one that sends a publisher its own message."""
    from conversation import WrongAnswerError, converse
    from programs import Server, running

    code = (BENCHMARKS / "servers" / "uwserve_echo.py").read_text()
    for old, new, deflate in (
        ("compress = options.deflate", "compress = False", True),
        ("        ws.publish(topic, data, compress)", "        ws.publish(topic, data), ws.send(data)", False),
        ("ws.publish(topic, data, compress)", "ws.publish(topic, str(data))", False),
    ):
        assert old in code
        program = tmp_path / "wrong.py"
        program.write_text(f"import sys; sys.path.append({str(BENCHMARKS / 'servers')!r})\n" + code.replace(old, new))
        server = Server("wrong", (sys.executable, str(program)), "")
        arguments = ["--deflate"] if deflate else []
        with running(server, None, tmp_path / "log", *arguments) as (_, port), pytest.raises(WrongAnswerError):
            asyncio.run(converse(port, None, deflate))


def test_a_server_that_cannot_do_it_says_why(tmp_path: Path) -> None:
    from programs import BenchmarkError, Server, UnableError, running

    program = tmp_path / "unable.py"
    program.write_text("import sys; print('no such thing', file=sys.stderr); sys.exit(int(sys.argv[1]))")
    server = Server("unable", (sys.executable, str(program)), "")
    with pytest.raises(UnableError, match=r"^no such thing$"), running(server, None, tmp_path / "log", 3):
        pass
    with pytest.raises(BenchmarkError, match="did not print its port"), running(server, None, tmp_path / "log", 1):
        pass
