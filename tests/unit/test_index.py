"""An index of pictures: encoded once, searched, made anew when it is damaged."""

import pytest
import torch
from test_sources import saved

from adafuse_lite import (
    InputError,
    PictureIndex,
    index_pictures,
    load_benchmark,
    load_encoder,
    sources,
)
from adafuse_lite.postcards import render, world


def test_photographs_are_indexed_once_and_found(models, album, tmp_path):
    encoder = load_encoder(str(models / "clip"), device="cpu")
    mine = sources.photos(album, progress=False)
    assert (
        len(mine.corpus) == 7
        and mine.skipped == ("broken.jpg", "half.jpg", "phone.heic")
        and mine.report["unreadable pictures left out"] == 3
    )
    assert mine.picture("upright.jpg").size == (20, 40)
    index = index_pictures(mine, encoder, tmp_path / "index")
    names, scores = index.search(encoder.encode_images([mine.picture("holiday/4.png")]), k=3)
    assert names[0][0] == "holiday/4.png" and scores[0, 0] > 0.999
    encoder.encode_images = None  # a second time nothing is encoded
    again = index_pictures(mine, encoder, tmp_path / "index")
    assert again.names == index.names
    again.check(encoder)
    with pytest.raises(InputError, match="another encoder"):
        again.check(load_encoder(str(models / "blip"), device="cpu"))


def test_an_index_that_was_damaged_or_killed_is_made_anew(models, album, tmp_path):
    encoder = load_encoder(str(models / "clip"), device="cpu")
    mine = sources.photos(album, progress=False)
    first = index_pictures(mine, encoder, tmp_path)
    path = tmp_path / "features.safetensors"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match="truncated"):
        PictureIndex.load(tmp_path)
    assert torch.equal(
        index_pictures(mine, encoder, tmp_path).features.half(), first.features.half()
    )


def test_datasets_of_equal_names_do_not_share_features(tmp_path):
    """An index, and the parts of a build, belong to the pictures: those of another dataset have the
    names 000000, ... as well."""
    encoder, scenes = load_encoder("postcards", device="cpu"), world.scenes("models", 6)
    one, other = (
        load_benchmark(
            saved(tmp_path / name / "mine", [["a"]] * 3, images=[render.draw(s) for s in part])
        )
        for name, part in (("one", scenes[:3]), ("other", scenes[3:]))
    )
    assert one.corpus == other.corpus
    first = index_pictures(one, encoder, tmp_path / "index")
    assert torch.equal(
        index_pictures(one, encoder, tmp_path / "index").features, first.features.half().float()
    ), "the same one is loaded"
    second = index_pictures(other, encoder, tmp_path / "index")
    assert (first.features - second.features).abs().max() > 0.05
    assert torch.allclose(
        second.features,
        encoder.encode_images([render.draw(s) for s in scenes[3:]]).cpu(),
        atol=2e-3,
    )
