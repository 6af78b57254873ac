"""What 06_demo writes by hand is what the game does."""

import pytest
import torch
from lesson_kit import definitions

from adafuse_lite.game import asking


def test_the_notebooks_information_is_the_packages():
    by_hand = definitions("06_demo")["information"]
    torch.manual_seed(0)
    for answers in (2, 5):
        p, w = torch.rand(40, answers).softmax(1), torch.randn(40).softmax(0)
        assert by_hand(p, w) == pytest.approx(asking.information(p, w), abs=1e-6)
