"""Benchmarks: Postcards, folders in ChatIR's layout, and what is said about bad ones."""

from dataclasses import replace

import pytest

from adafuse_lite import Benchmark, Dialogue, InputError, load_benchmark


@pytest.fixture(scope="module")
def small():
    return load_benchmark("postcards", split="validation").limit(5, pictures=12)


def test_texts_and_prompts(small):
    first = small.dialogues[0].entries
    assert small.text(0, 0) == small.prompt(0, 0) == first[0]
    assert small.text(0, 2) == f"{first[0]}, {first[1]}, {first[2]}"
    assert small.facts(0, 10).items() >= small.facts(0, 0).items()


def test_prompts_written_elsewhere_are_drawn(few):
    own = [[f"prompt {q} {r}" for r in range(11)] for q in range(3)]
    made = replace(few, prompts=own)
    assert made.prompt(2, 5) == "prompt 2 5"


def test_a_name_cannot_lead_out_of_the_folder(tmp_path):
    (tmp_path / "secret.png").write_bytes(b"x")
    (tmp_path / "in").mkdir()
    made = Benchmark(
        "b",
        "s",
        "t",
        [Dialogue("../secret.png", ("a",) * 11)],
        ["../secret.png"],
        root=tmp_path / "in",
    )
    with pytest.raises(InputError, match="leads out"):
        made.picture("../secret.png")
