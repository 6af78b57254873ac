"""Scenes, their splits and pixels, and captions that say only what is there."""

import hashlib
import random

import numpy as np
import pytest

from adafuse_lite.postcards import captions, render, world


@pytest.fixture(scope="module")
def scenes():
    return world.scenes("models", 200)


def test_the_same_scenes_give_the_same_pixels_everywhere(scenes):
    digest = hashlib.sha256(b"".join(render.pixels(s).tobytes() for s in scenes[:50])).hexdigest()
    assert digest == "93d45ab7a392524af3eb937801ef9bc5c64ef09ba33fb68c9e740b6ef6102c55"


def test_a_scene_is_its_codes(scenes):
    assert all(world.Scene.from_codes(s.codes()) == s for s in scenes)
    assert len(world.ATTRIBUTES) == 18


def test_splits_are_disjoint_and_seeds_reproducible():
    found = {split: set(world.scenes(split, 100, seed=3)) for split in world.BUCKETS}
    assert sum(map(len, found.values())) == len(set.union(*found.values())) == 400
    assert all(world.split_of(s) == split for split, some in found.items() for s in some)
    assert world.scenes("test", 5, seed=3) == world.scenes("test", 100, seed=3)[:5]


def test_what_is_absent_has_no_details(scenes):
    for scene in scenes:
        for thing, details in world.DETAILS.items():
            absent = getattr(scene, thing) == "none"
            assert all((getattr(scene, d) == "none") == absent for d in details)


def test_every_attribute_can_be_seen(scenes):
    """Changing any one attribute changes the picture (a thing that is behind another may hide)."""
    for name, values in world.ATTRIBUTES.items():
        differ = total = 0
        for scene in scenes[:60]:
            if getattr(scene, name) == "none":
                continue
            other = next(v for v in values if v not in ("none", getattr(scene, name)))
            changed = world.Scene(**{**vars(scene), name: other})
            differ += not np.array_equal(render.pixels(scene), render.pixels(changed))
            total += 1
        assert differ >= 0.9 * total, name


def test_captions_state_only_what_is_true(scenes):
    rng = random.Random(0)
    for scene in scenes:
        for text, facts in (captions.caption(scene, rng), captions.long_caption(scene, rng)):
            assert text and facts
            assert all(getattr(scene, name) == value for name, value in facts.items())


def test_long_captions_reach_the_whole_scene(scenes):
    rng = random.Random(0)
    shares = [len(captions.long_caption(s, rng)[1]) for s in scenes]
    assert min(shares) <= 3 and max(shares) >= 16
