"""What A2_tiny_diffusion defines by hand is what the trainings of the generator compute."""

import random

import pytest
import torch
from lesson_kit import definitions, try_exercises
from scipy.stats import binomtest

from adafuse_lite.postcards import pretrain, world


@pytest.fixture(scope="module")
def a2():
    return definitions("A2_tiny_diffusion")


@pytest.fixture(scope="module")
def some():
    scenes = world.scenes("models", 12)
    return scenes, pretrain.pictures(scenes)


def test_psnr_of_a2_is_that_of_the_log(a2, caught, some, tmp_path):
    scenes, pixels = some
    pretrain.train_autoencoder(tmp_path, pixels, batch=4)
    torch.manual_seed(0)
    _, more = caught["loss"](0, random.Random(5))

    x = pixels[random.Random(5).sample(range(len(pixels)), 4)].float() / 127.5 - 1
    torch.manual_seed(0)
    latents = caught["model"].encode(x).latents
    back = caught["model"].decode(latents + 0.1 * torch.randn_like(latents)).sample
    assert a2["psnr"](x, back) == pytest.approx(more["psnr"].item(), abs=1e-2)


@pytest.mark.parametrize(("right", "n"), [(0, 20), (25, 67), (27, 123), (87, 87)])
def test_interval_of_a2_is_wilsons(a2, right, n):
    wanted = binomtest(right, n).proportion_ci(method="wilson")
    assert a2["wilson"](right, n) == pytest.approx((wanted.low, wanted.high), abs=1e-4)


def test_exercise_of_a2():
    wrong = [
        lambda z, v, a, b: b * z + a * v,  # the noise
        lambda z, v, a, b: a * z + b * v,  # the wrong sign
        lambda z, v, a, b: z - v,  # no weights
        lambda z, v, a, b: v,
        lambda z, v, a, b: (z - b * v) / a,  # takes v for the noise
        lambda z, v, a, b: None,
    ]
    try_exercises("A2_tiny_diffusion", {"clean_from": wrong})
    check = definitions("A2_tiny_diffusion")["check_clean_from"]
    assert len({check(answer) for answer in wrong[:4]}) == 4
