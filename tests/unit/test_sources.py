"""Benchmarks from files: folders in ChatIR's layout, photographs, VisDial, saved datasets."""

import json

import numpy as np
import pytest
from notebook_kit import ROOT
from PIL import Image

from adafuse_lite import InputError, load_benchmark, sources, write_benchmark
from adafuse_lite.postcards import render, world

REAL = ROOT.parent / "shared" / "chatir"


# --- folders in ChatIR's layout -------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    return load_benchmark("postcards", split="validation").limit(5, pictures=12)


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
        ({"img": "c.jpg"}, r"c\.jpg is not in the corpus list"),
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
    assert len(set(benchmark.targets)) == 2_064
    assert benchmark.report["missing pictures"] == 50_000
    assert len(benchmark.report["first missing"]) == 3
    assert all(benchmark.prompt(q, 10) for q in range(100))
    if style.startswith("FLAN"):
        assert (
            benchmark.report["stray 'Answer:'"] == 13_547 and benchmark.report["without '?'"] == 55
        )
        assert (
            benchmark.report["ends in a question"] == 431 and benchmark.report["empty answers"] == 2
        )
        tidy = load_benchmark(REAL, style=style, clean=True)
        assert tidy.report["stray 'Answer:'"] == 0


# --- photographs ----------------------------------------------------------------------------------


def test_looking_at_photographs_shows_a_bar_unless_told_not_to(album, capfd):
    captions = dict.fromkeys(sources.photos(album, progress=False).corpus, "a red barn")
    sources.pairs(captions, album, progress=False)
    assert "look at photographs" not in capfd.readouterr().err
    sources.photos(album)
    assert "look at photographs" in capfd.readouterr().err
    sources.pairs(captions, album)
    assert "look at photographs" in capfd.readouterr().err


def test_a_folder_without_photographs_is_refused(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        sources.photos(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no picture"):
        sources.photos(tmp_path, progress=False)


# --- VisDial --------------------------------------------------------------------------------------


@pytest.fixture
def visdial_file(tmp_path):
    talk = {
        "image_id": 42,
        "caption": "a barn",
        "dialog": [{"question": 1, "answer": 0}, {"question": 0, "answer": 1}],
    }
    held = {
        "version": "1.0",
        "data": {
            "questions": ["is it red", "any trees"],
            "answers": ["no", "yes"],
            "dialogs": [talk],
        },
    }
    path = tmp_path / "visdial_1.0_train.json"
    path.write_text(json.dumps(held))
    return path


def test_visdials_own_file_loads(visdial_file, tmp_path):
    made = load_benchmark(str(visdial_file))
    assert made.text(0, 2) == "a barn, any trees? no, is it red? yes"
    assert (made.rounds, made.corpus) == (3, ["COCO_train2014_000000000042.jpg"])
    pictures = (
        tmp_path / "coco"
    )  # as COCO is unpacked: in folders, with the year and the split in the names
    (pictures / "val2014").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(pictures / "val2014" / "COCO_val2014_000000000042.jpg")
    made = load_benchmark(visdial_file, images=pictures)
    assert made.corpus == ["val2014/COCO_val2014_000000000042.jpg"] and made.picture(
        made.corpus[0]
    ).size == (8, 8)
    held = json.loads(visdial_file.read_text())
    del held["data"]["dialogs"][0]["dialog"][1]
    visdial_file.write_text(json.dumps(held))
    assert load_benchmark(visdial_file).rounds == 2  # a caption and one answer
    del held["data"]["dialogs"][0]["dialog"][0]
    visdial_file.write_text(json.dumps(held))
    with pytest.raises(InputError, match="no dialogue with an answer"):
        load_benchmark(visdial_file)


def test_a_malformed_visdial_file_is_told(visdial_file):
    held = json.loads(visdial_file.read_text())
    held["data"]["dialogs"][0]["dialog"][1]["answer"] = 99
    visdial_file.write_text(json.dumps(held))
    with pytest.raises(InputError, match="dialogue 0.*VisDial's form"):
        load_benchmark(visdial_file)
    visdial_file.write_text("[]")
    with pytest.raises(InputError, match="no JSON object"):
        load_benchmark(visdial_file)


# --- saved datasets -------------------------------------------------------------------------------


def test_a_saved_dataset_loads(tmp_path):
    import datasets

    scenes = world.scenes("models", 4)
    rows = {
        "name": list("abcd"),
        "image": [render.draw(s) for s in scenes],
        "dialog": [["a barn", "is it red? yes"], [], ["a car", "red? no"], []],
    }
    datasets.Dataset.from_dict(
        rows,
        features=datasets.Features(
            {
                "name": datasets.Value("string"),
                "image": datasets.Image(),
                "dialog": datasets.List(datasets.Value("string")),
            }
        ),
    ).save_to_disk(tmp_path / "mine")
    made = load_benchmark(tmp_path / "mine")
    assert (made.rounds, made.corpus, made.targets) == (2, list("abcd"), [0, 2])
    assert list(
        made.picture("c").get_flattened_data()
        if hasattr(made.picture("c"), "get_flattened_data")
        else made.picture("c").getdata()
    ) == list(
        render.draw(scenes[2]).get_flattened_data()
        if hasattr(Image.Image, "get_flattened_data")
        else render.draw(scenes[2]).getdata()
    )
    (tmp_path / "mine" / "state.json").write_text("{}")
    with pytest.raises(InputError, match="no dataset that datasets can load"):
        load_benchmark(tmp_path / "mine")


def saved(folder, dialogs, images=None, columns=None):
    """A dataset in ``folder``, saved by ``datasets``:
    a row for each dialogue, with pictures of the world."""
    import datasets

    scenes = world.scenes("models", len(dialogs) + 3)
    rows = {"image": images or [render.draw(s) for s in scenes[: len(dialogs)]], "dialog": dialogs}
    kinds = {
        "image": datasets.Image(),
        "dialog": datasets.List(datasets.Value("string")),
        **(columns or {}),
    }
    # Without a number of shards datasets 4.0 divides by zero where there is no row.
    datasets.Dataset.from_dict(rows, features=datasets.Features(kinds)).save_to_disk(
        folder, num_shards=1
    )
    return folder


@pytest.mark.parametrize(
    ("dialogs", "said"),
    [
        ([], "holds no dialogue|no dataset that datasets can load"),
        ([[], None], "holds no dialogue"),
        ([["a barn"], ["a car", "red? no"]], "row 0: its dialogue needs 2 texts"),
        ([["a barn", ""]], "row 0: its dialogue needs 2 texts"),
        ([["a barn", None]], "row 0: its dialogue needs 2 texts"),
    ],
)
def test_a_dataset_without_fit_dialogues_is_told(tmp_path, dialogs, said):
    with pytest.raises(InputError, match=said):
        load_benchmark(saved(tmp_path / "mine", dialogs))


def test_a_dataset_may_have_rows_without_dialogue_and_splits(tmp_path):
    import datasets

    made = load_benchmark(saved(tmp_path / "mine", [["a barn", "red? yes"], None]))
    assert (len(made.dialogues), len(made.corpus), made.rounds) == (1, 2, 2)
    both = datasets.DatasetDict({"test": datasets.load_from_disk(str(tmp_path / "mine"))})
    both.save_to_disk(str(tmp_path / "both"))
    assert load_benchmark(tmp_path / "both", split="test").corpus == made.corpus
    with pytest.raises(InputError, match="no split 'train'; there are: test"):
        load_benchmark(tmp_path / "both", split="train")


def test_a_dataset_of_texts_or_of_other_columns_is_told(tmp_path):
    import datasets

    text = saved(tmp_path / "text", ["a barn"], columns={"dialog": datasets.Value("string")})
    with pytest.raises(InputError, match="row 0: its dialogue needs"):
        load_benchmark(text)
    datasets.Dataset.from_dict({"picture": [1]}).save_to_disk(str(tmp_path / "other"))
    with pytest.raises(InputError, match="lacks the column dialog and image; it has picture"):
        load_benchmark(tmp_path / "other")
    made = load_benchmark(saved(tmp_path / "none", [["a barn"]], images=[None]))
    with pytest.raises(InputError, match="row 0: holds no picture that can be read"):
        made.picture(made.corpus[0])
