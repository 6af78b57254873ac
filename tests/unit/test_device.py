"""Where models run, and seeds."""

import random

import numpy as np
import pytest
import torch

from adafuse_lite import AdaFuSE, pick_device, seed_everything
from adafuse_lite.device import device_of


@pytest.mark.parametrize(
    ("nvidia", "apple", "best"),
    [(True, False, "cuda"), (True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_best_device_is_picked_unless_one_is_wanted(monkeypatch, nvidia, apple, best):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: nvidia)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)
    assert pick_device().type == best
    assert pick_device("cpu").type == "cpu" and pick_device("cuda:1") == torch.device("cuda", 1)


def test_a_model_says_where_it_is():
    assert device_of(AdaFuSE(12, 8, 16)).type == "cpu"
    assert device_of(AdaFuSE(12, 8, 16).to("meta")).type == "meta"
    assert device_of(torch.nn.Identity()).type == "cpu"


def test_a_seed_decides_all_that_is_drawn():
    drawn = []
    for _ in range(2):
        seed_everything(7)
        drawn.append((random.random(), np.random.rand(), torch.rand(1).item()))  # noqa: NPY002
    assert drawn[0] == drawn[1]
