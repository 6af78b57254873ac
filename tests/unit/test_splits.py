"""Postcards' benchmark: its splits, sizes and styles."""

import json

import pytest
import torch
from store_once import store_once
from toy_bank import toy_bank

from adafuse_lite import FeatureBank, InputError, load_benchmark
from adafuse_lite.files import content_hash
from adafuse_lite.names import bundled
from adafuse_lite.postcards import world
from adafuse_lite.postcards.dialogues import STYLES
from adafuse_lite.postcards.splits import SPLITS


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


def test_postcards_says_what_it_has():
    for split in ("train", "validation"):
        with pytest.raises(InputError, match="test split only"):
            load_benchmark("postcards", style="flan_blip2", split=split)
    with pytest.raises(InputError, match="styles are visdial"):
        load_benchmark("postcards", style="klingon")


@pytest.fixture(scope="module")
def small():
    return load_benchmark("postcards", split="validation").limit(5, pictures=12)


def test_scenes_belong_to_their_split(small):
    assert all(world.split_of(s) == "validation" for s in small.scenes)
    assert len(small.corpus) == len(small.scenes) == 12 and small.targets == [0, 1, 2, 3, 4]


def test_what_banks_side_by_side_have_in_common_is_stored_once(tmp_path):
    toy = vars(toy_bank())
    cut = torch.zeros(toy["text"].shape[:2], dtype=torch.bool)
    bank = FeatureBank(**toy, cut=cut, prompt_cut=cut.roll(1), seeds=toy["target"])
    bank.save(tmp_path / "first")
    FeatureBank(**{**vars(bank), "text": bank.prompt}).save(tmp_path / "second")
    before = {name: FeatureBank.load(tmp_path / name) for name in ("first", "second")}
    for _ in range(2):  # a second call finds nothing to do
        store_once(tmp_path)
        assert [p.stem for p in (tmp_path / "first").glob("*.safetensors")] == ["text"]
        assert not list((tmp_path / "second").glob("*.safetensors"))
        for name, old in before.items():
            new = FeatureBank.load(tmp_path / name)
            assert all(torch.equal(x, getattr(new, k)) for k, x in old._tensors().items())
