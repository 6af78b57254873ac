"""Benchmarks: Postcards, folders in ChatIR's layout, and what is said about bad ones."""

import json

import numpy as np
import pytest
from notebook_kit import ROOT

from adafuse_lite import InputError, load_benchmark, write_benchmark
from adafuse_lite.files import content_hash
from adafuse_lite.names import bundled
from adafuse_lite.postcards import world
from adafuse_lite.postcards.dialogues import STYLES
from adafuse_lite.postcards.splits import SPLITS

REAL = ROOT.parent / "shared" / "chatir"


@pytest.fixture(scope="module")
def small():
    return load_benchmark("postcards", split="validation").limit(5, pictures=12)


def test_postcards_has_the_promised_sizes():
    own = load_benchmark("postcards")
    assert len(own.dialogues) >= 1_000 and len(own.corpus) >= 10_000 and own.rounds == 11
    assert SPLITS["train"][0] >= 3_000 and SPLITS["validation"][0] >= 300
    for style in STYLES[1:]:
        other = load_benchmark("postcards", style=style)
        assert len(other.dialogues) >= 500 and other.corpus == own.corpus


@pytest.mark.parametrize(
    ("style", "split"),
    [("visdial", split) for split in SPLITS] + [(style, "test") for style in STYLES[1:]],
)
def test_postcards_are_those_that_the_banks_were_built_on(style, split):
    made = load_benchmark("postcards", style, split)
    meta = json.loads(
        (bundled("postcards", "banks") / f"{style}-{split}" / "bank.json").read_text()
    )
    assert (
        content_hash([[made.text(q, r) for r in range(11)] for q in range(len(made.dialogues))])
        == meta["texts"]
    )
    assert content_hash([made.corpus, [scene.codes() for scene in made.scenes]]) == meta["corpus"]


def test_scenes_belong_to_their_split(small):
    assert all(world.split_of(s) == "validation" for s in small.scenes)
    assert len(small.corpus) == len(small.scenes) == 12 and small.targets == [0, 1, 2, 3, 4]


def test_texts_and_prompts(small):
    first = small.dialogues[0].entries
    assert small.text(0, 0) == small.prompt(0, 0) == first[0]
    assert small.text(0, 2) == f"{first[0]}, {first[1]}, {first[2]}"
    assert small.facts(0, 10).items() >= small.facts(0, 0).items()


def test_a_written_world_is_read_back(small, tmp_path):
    write_benchmark(small, tmp_path)
    again = load_benchmark(tmp_path, style="visdial", split="validation")
    assert (again.dialogues, again.corpus, again.targets) == (
        small.dialogues,
        small.corpus,
        small.targets,
    )
    assert [again.prompt(q, 10) for q in range(5)] == [small.prompt(q, 10) for q in range(5)]
    for name in small.corpus:
        assert np.array_equal(np.asarray(small.picture(name)), np.asarray(again.picture(name)))
    assert again.report["missing pictures"] == 0 and again.scenes is None


def test_ready_made_prompts_replace_the_rules(small, tmp_path):
    write_benchmark(small, tmp_path)
    prompts = [[f"prompt {q} {r}" for r in range(11)] for q in range(5)]
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "prompts.json").write_text(json.dumps(prompts))
    by_picture = {d.img: p for d, p in zip(small.dialogues, prompts)}
    for given in (prompts, by_picture, tmp_path / "p" / "prompts.json"):
        assert load_benchmark(tmp_path, prompts=given).prompt(3, 4) == "prompt 3 4"
    with pytest.raises(InputError, match="11 prompts for each of the 5 dialogues"):
        load_benchmark(tmp_path, prompts=prompts[:3])
    with pytest.raises(InputError, match="11 prompts for each of the 5 dialogues"):
        load_benchmark(tmp_path, prompts=dict(list(by_picture.items())[:3]))


def folder(path, **changes):
    item = {"img": "a.jpg", "dialog": ["a cat", *["is it red? Answer: no\n"] * 10]} | changes
    (path / "dialogs.json").write_text(json.dumps([item]))
    (path / "corpus.json").write_text(json.dumps(["a.jpg", "b.jpg"]))
    return path


def test_a_folder_without_pictures_loads(tmp_path):
    benchmark = load_benchmark(folder(tmp_path), style="dialogs")
    assert benchmark.text(0, 1) == "a cat, is it red? Answer: no\n"
    assert (
        benchmark.report | {"entries": 11, "stray 'Answer:'": 10, "missing pictures": 2}
        == benchmark.report
    )
    with pytest.raises(InputError, match=r"a\.jpg is missing: give the folder of the pictures"):
        benchmark.picture("a.jpg")
    assert (
        load_benchmark(tmp_path, style="dialogs", clean=True).text(0, 1) == "a cat, is it red? no"
    )
    habits = {
        "newlines": 10,
        "blanks at an end": 10,
        "without '?'": 0,
        "empty answers": 0,
        "first missing": ["a.jpg", "b.jpg"],
    }
    assert benchmark.report | habits == benchmark.report
    few = benchmark.limit(1, pictures=3)  # more than there are, of a world that nobody knows
    assert few.corpus == ["a.jpg", "b.jpg"] and few.scenes is None and few.facts(0, 0) is None
    for one in (benchmark, benchmark.dialogues[0]):
        with pytest.raises(AttributeError):  # what is shared by many is not changed
            one.img = "b.jpg"


def test_the_first_three_missing_pictures_are_named(tmp_path):
    folder(tmp_path)
    (tmp_path / "corpus.json").write_text(json.dumps(list("edcb") + ["a.jpg"]))
    report = load_benchmark(tmp_path, style="dialogs").report
    assert (report["missing pictures"], report["first missing"]) == (5, ["e", "d", "c"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dialog": ["a"] * 3}, r"dialogs\.json, dialogue 0: needs .* 11 strings"),
        ({"dialog": "a cat"}, r"dialogue 0: needs"),
        ({"dialog": [*["a"] * 10, 7]}, r"dialogue 0, entry 10: is empty or not a text"),
        ({"dialog": [" ", *["a"] * 10]}, r"dialogue 0, entry 0: is empty"),
        ({"img": "c.jpg"}, r"c\.jpg is not in corpus\.json"),
        ({"img": None}, r"dialogue 0: needs 'img'"),
    ],
)
def test_a_bad_dialogue_is_named(tmp_path, changes, said):
    with pytest.raises(InputError, match=said):
        load_benchmark(folder(tmp_path, **changes), style="dialogs")


def test_cleaning_leaves_no_empty_text(tmp_path):
    folder(tmp_path, dialog=["Answer:", *["is it red? no"] * 10])
    with pytest.raises(InputError, match="dialogue 0, entry 0: is empty"):
        load_benchmark(tmp_path, style="dialogs", clean=True)


def test_bad_folders_and_files(tmp_path):
    with pytest.raises(InputError, match="is no folder"):
        load_benchmark(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no corpus list"):
        load_benchmark(tmp_path)
    folder(tmp_path)
    with pytest.raises(InputError, match="no dialogues of style 'other'; there are: dialogs"):
        load_benchmark(tmp_path, style="other")
    (tmp_path / "broken.json").write_text("[{")
    with pytest.raises(InputError, match=r"broken\.json is no valid JSON"):
        load_benchmark(tmp_path, style="broken")
    (tmp_path / "empty.json").write_text("[]")
    with pytest.raises(InputError, match="holds no dialogue"):
        load_benchmark(tmp_path, style="empty")
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match="does not decode as a picture"):
        load_benchmark(tmp_path, style="dialogs").picture("a.jpg")
    for held in ("[]", "[1]"):
        (tmp_path / "corpus.json").write_text(held)
        with pytest.raises(InputError, match="not a list of picture names"):
            load_benchmark(tmp_path, style="dialogs")
    (tmp_path / "corpus.json").write_text('["a.jpg", "a.jpg"]')
    with pytest.raises(InputError, match="names a picture twice"):
        load_benchmark(tmp_path, style="dialogs")


def test_postcards_says_what_it_has():
    for split in ("train", "validation"):
        with pytest.raises(InputError, match="test split only"):
            load_benchmark("postcards", style="flan_blip2", split=split)
    with pytest.raises(InputError, match="styles are visdial"):
        load_benchmark("postcards", style="klingon")


@pytest.mark.parametrize("style", ["VisDial_v1.0_queries_val", "FLAN_ALPACA_XXL_BLIP2"])
def test_the_real_files_load(style):
    if not (REAL / f"{style}.json").exists():
        pytest.skip("ChatIR's files are not here")
    benchmark = load_benchmark(REAL, style=style)
    raw = json.loads((REAL / f"{style}.json").read_text(encoding="utf-8"))
    assert (
        len(benchmark.dialogues) == len(benchmark.targets) == 2_064
        and len(benchmark.corpus) == 50_000
    )
    for q, item in enumerate(raw):
        assert benchmark.corpus[benchmark.targets[q]] == item["img"]
        assert all(benchmark.text(q, r) == ", ".join(item["dialog"][: r + 1]) for r in range(11))
    assert all(benchmark.prompt(q, 10) for q in range(100))
    if style.startswith("FLAN"):
        assert (
            benchmark.report["stray 'Answer:'"] == 13_547 and benchmark.report["without '?'"] == 55
        )
        assert (
            benchmark.report["ends in a question"] == 431 and benchmark.report["empty answers"] == 2
        )
