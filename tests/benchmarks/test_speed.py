"""The benchmark runs, judges by its numbers, and the protocol's goals hold."""

import json
import subprocess
import sys
from pathlib import Path

import protocol
import pytest
import run
from measure import Row

ROWS = {  # what each part must tell, by a piece of the row's name
    "protocol": [
        "argsort : ranks",
        "ranks : bare product",
        "ranks, peak memory",
        "argsort, peak memory",
    ],
    "head": [
        f"{kind} of {n}: {ratio}"
        for kind in ("forward", "step")
        for n in ("8", "129")
        for ratio in ("loop form : AdaFuSE", "bare products : AdaFuSE")
    ],
    "banks": [
        "text encoding",
        "drawing",
        "picture encoding",
        "reading by the probe",
        "reading, writing and all else",
    ],
    "notebooks": ["to the first picture", "time", "peak memory"],
    "growth": ["corpus", "queries", "rounds", "batch of the head"],
    "gpu": [
        "all in GPU memory",
        "moved batch by batch",
        "DataLoader : fit",
        "share of the measured peak",
    ],
}


def test_verdicts_come_from_the_medians():
    assert Row("", [4.0, 6.0, 7.0], "times", ">= 5").verdict == "holds"
    assert Row("", [4.0, 4.9, 7.0], "times", ">= 5").verdict == "missed"
    assert Row("", [1.2, 1.0, 9.0], "times", "<= 1.3").verdict == "holds"
    assert Row("", [1.0], "s").verdict == "" and Row("skipped", [], "").verdict == ""
    assert Row("", [4.0, 6.0, 7.0], "times").record() | {"what": "x"} == {
        "what": "x",
        "unit": "times",
        "median": 6.0,
        "min": 4.0,
        "max": 7.0,
        "runs": 3,
        "goal": "",
        "verdict": "",
    }


def test_the_quick_benchmark_tells_all(tmp_path):
    script = Path(run.__file__)
    done = subprocess.run(
        [sys.executable, script, "--quick", "--out", tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert list(results) == list(run.PARTS) == list(ROWS)
    for part, pieces in ROWS.items():
        rows = results[part]["rows"]
        for piece in pieces:
            assert any(piece in row["what"] for row in rows), (part, piece)
        for row in rows:
            assert row["min"] <= row["median"] <= row["max"] and row["runs"] >= 1
            assert row["what"] in done.stdout
            assert row["verdict"] == Row("", [row["median"]], row["unit"], row["goal"]).verdict
    assert (tmp_path / "speed.png").stat().st_size > 10_000


def test_the_page_and_the_figure_show_what_was_measured():
    results = json.loads((run.HERE / "results.json").read_text(encoding="utf-8"))
    assert list(results) == list(run.PARTS), "measure all parts: python tests/benchmarks/run.py"
    page = (run.HERE.parent / "README.md").read_text(encoding="utf-8")
    assert page == run.with_table(page, results)
    for part in results.values():
        for row in part["rows"]:
            assert (
                row["verdict"]
                == Row("", [row["median"]] if row["runs"] else [], row["unit"], row["goal"]).verdict
            )
    assert (run.HERE.parent.parent / "figures" / "speed.png").exists()


@pytest.mark.slow
def test_ranks_keep_the_goals_of_the_protocol():
    rows = {row.what: row for row in protocol.measure()}
    assert rows["argsort : ranks"].median >= 5
    assert rows["ranks : bare product"].median <= 1.3
    assert rows["ranks, peak memory above features"].median < 100
