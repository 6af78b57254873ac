"""07_real_models runs on models that it has never seen,
and what it writes out by hand is the package's own."""

import json
import re

import pytest
import run_notebooks
import tiny_models
import torch
import torch.nn.functional as F
from lesson_kit import definitions, try_exercises
from notebook_kit import ROOT, read, smallest_parameters, source

from adafuse_lite import FeatureBank, fusion, hub, top
from adafuse_lite.postcards import render, world

NAME = "07_real_models"
NOTEBOOK = ROOT / "notebooks" / f"{NAME}.ipynb"


@pytest.fixture(scope="module")
def lesson():
    return definitions(NAME)


# --- written out by hand --------------------------------------------------------------------------
@pytest.mark.parametrize("chunk", [1, 7, 50, 999])
def test_the_search_by_hand_is_the_packages(lesson, chunk):
    torch.manual_seed(0)
    query, corpus = torch.randn(4, 8), torch.randn(50, 8)
    values, places = lesson["top_by_hand"](query, corpus, 10, chunk)
    wanted, at = top(query, corpus, 10)
    torch.testing.assert_close(values, wanted)
    assert torch.equal(places, at)
    assert lesson["top_by_hand"](query, corpus, 99, chunk)[1].shape == (4, 50)


def test_the_quick_gelu_is_open_clips(lesson):
    from open_clip.transformer import QuickGELU

    x = torch.linspace(-6, 6, 99, requires_grad=True)
    ours, theirs = lesson["QuickGELU"]()(x), QuickGELU()(x)
    torch.testing.assert_close(ours, theirs)
    (a,), (b,) = (torch.autograd.grad(y.sum(), x) for y in (ours, theirs))
    torch.testing.assert_close(a, b)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.GELU(), torch.nn.ReLU())
    twin, changed = lesson["with_quick_gelu"](model)
    assert (
        changed == 1
        and isinstance(model[1], torch.nn.GELU)
        and isinstance(twin[1], lesson["QuickGELU"])
    )


def test_the_authors_names_are_the_packages_map(lesson):
    known = {ours: theirs for ours, theirs in hub.REFERENCE_NAMES.items() if ours != theirs}
    assert known == lesson["THEIRS"]
    with torch.device("meta"):
        head = fusion.AdaFuSE(16, 8, 8)
    names = [lesson["their_name"](name) for name in head.state_dict()]
    assert {
        "dynamic_scalar.0.weight",
        "moe_router.2.bias",
        "experts.3.0.weight",
        "logit_scale",
    } <= set(names)
    assert len(set(names)) == len(names)


# --- splitting ------------------------------------------------------------------------------------
@pytest.mark.parametrize(("dialogues", "count"), [(4, 12), (40, 400), (33, 33)])
def test_no_picture_is_in_two_parts(lesson, dialogues, count):
    torch.manual_seed(count)
    target = torch.randint(count, (dialogues,))
    target[1] = target[0]  # two dialogues on one picture
    x = {
        n: F.normalize(torch.randn(dialogues, 2, 8), dim=-1)
        for n in ("text", "prompt", "generated")
    }
    none = torch.zeros(dialogues, 2, dtype=torch.bool)
    bank = FeatureBank(
        **x,
        target=target,
        corpus=F.normalize(torch.randn(count, 8), dim=-1),
        cut=none,
        prompt_cut=none,
        seeds=torch.zeros(dialogues, dtype=torch.long),
    )
    part = lesson["deal_pictures"](target, count, seed=3)
    assert part.shape == (count,) and torch.equal(
        part, lesson["deal_pictures"](target, count, seed=3)
    )
    parts = [lesson["take"](bank, part, k) for k in range(3)]
    assert (
        sum(len(p.target) for p in parts) == dialogues
        and sum(len(p.corpus) for p in parts) == count
    )
    assert part[target[0]] == part[target[1]]
    for k, p in enumerate(parts):
        wanted = bank.corpus[target[part[target] == k]]
        assert torch.equal(p.corpus[p.target], wanted)
        assert torch.equal(p.text, bank.text[part[target] == k])


def test_the_hours_are_reckoned_right(lesson):
    hours = lesson["gpu_hours"]
    assert hours(7_200, 0, 2, 1) == pytest.approx(1)
    assert hours(0, 3_600, 3_600, 1) == pytest.approx(1 + 1 / 3_600)  # drawn, then encoded


# --- the exercises --------------------------------------------------------------------------------
def test_exercises():
    def too_early(tokens, limit):
        return (tokens < limit).sum(1)

    def first_yes(tokens, limit):
        return (tokens > limit).float().argmax(1)

    def raw_sum(a, b, k=60):
        return a + b

    def upside_down(a, b, k=60):
        return sum(1 / (k + s.argsort(1).argsort(1) + 1) for s in (a, b))

    def from_zero(a, b, k=60):
        return sum(1 / (k + s.argsort(1, descending=True).argsort(1)) for s in (a, b))

    try_exercises(
        NAME, {"first_cut": [too_early, first_yes], "merge": [raw_sum, upside_down, from_zero]}
    )


# --- the whole way, on stand-ins ------------------------------------------------------------------
@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory):
    """A random BLIP, a random pipeline,
    a folder in ChatIR's layout and an album: nothing of them is Postcards'."""
    folder = tmp_path_factory.mktemp("stand-ins")
    tiny_models.write_blip(folder / "blip")
    tiny_models.write_generator(folder / "diffusion")
    pictures = folder / "coco" / "unlabeled2017"
    pictures.mkdir(parents=True)
    names = [f"unlabeled2017/{i:012}.jpg" for i in range(14)]
    for name, scene in zip(names, world.scenes("models", len(names)), strict=True):
        render.draw(scene).resize((90, 70)).save(folder / "coco" / name)
    talks = [
        {
            "img": name,
            "dialog": [f"a barn {i}", *(f"what color is tree {r}? Answer: red" for r in range(10))],
        }
        for i, name in enumerate(names[:5])
    ]
    chatir = folder / "chatir"
    chatir.mkdir()
    # the last picture of the list is missing, as it may be in a real folder
    (chatir / "Search_Space_val.json").write_text(json.dumps([*names, "unlabeled2017/lost.jpg"]))
    (chatir / "VisDial_v1.0_queries_val.json").write_text(json.dumps(talks))
    return folder


def test_the_notebook_runs_on_models_that_it_never_saw(stand_ins, tmp_path):
    parameters = smallest_parameters(read(NOTEBOOK)) | {
        "encoder": str(stand_ins / "blip"),
        "generator": str(stand_ins / "diffusion"),
        "benchmark": str(stand_ins / "chatir"),
        "style": "VisDial_v1.0_queries_val",
        "images": str(stand_ins / "coco"),
        "photos": str(stand_ins / "coco"),
        "out": str(tmp_path / "kept"),
    }
    done = tmp_path / "done.ipynb"
    run = run_notebooks.papermill(
        NOTEBOOK, done, parameters, tmp_path, run_notebooks.environment(), 300
    )
    assert run.returncode == 0, run.stdout[-3000:]
    said = "".join(
        "".join(o.get("text", ""))
        for c in read(done)["cells"]
        if c["cell_type"] == "code"
        for o in c["outputs"]
    )
    assert "16 numbers a feature, 40 tokens read" in said
    assert "14 photographs" in said and "first photograph with a note to turn it: None" in said
    assert "5 dialogues of 11 entries, 15 pictures" in said and "12 of 15 pictures" in said
    assert "the bundled head belongs to another encoder than yours" in said
    assert re.search(r"encoder \(content hash\) \| \w{16} \|", said)
    kept = {p.name for p in (tmp_path / "kept").iterdir()}
    assert {"index", "bank", "head"} <= kept and "photos" not in kept and "benchmark" not in kept
    # transformers has a word on the stand-in's configuration, and on a name that diffusers 0.39
    # imports; the notebook itself
    # must be quiet
    of_libraries = (
        "[transformers] Model config",
        "[transformers] `Siglip2ImageProcessorFast` is deprecated",
    )
    warned = "".join(
        "".join(o["text"])
        for c in read(done)["cells"]
        for o in c.get("outputs", [])
        if o.get("name") == "stderr"
    )
    assert not [
        line for line in warned.splitlines() if line.strip() and not line.startswith(of_libraries)
    ], warned


def test_all_names_are_parameters():
    (cell,) = [c for c in read(NOTEBOOK)["cells"] if "parameters" in c["metadata"].get("tags", [])]
    given = set(re.findall(r"(?m)^(\w+) = ", source(cell)))
    assert {
        "photos",
        "encoder",
        "pretrained",
        "generator",
        "benchmark",
        "style",
        "images",
        "drawings",
        "out",
        "queries",
        "epochs",
        "seed",
    } <= given
    assert read(NOTEBOOK)["metadata"]["accelerator"] == "GPU"
