"""What the lessons' tests share."""

import pytest

from adafuse_lite.postcards import pretrain


@pytest.fixture
def caught(monkeypatch):
    """Instead of training, keep the loss function and the modules that were to be trained."""
    kept = {}

    def train(out, name, steps, lr, loss, **modules):
        kept.update(modules, loss=loss)
        return []

    monkeypatch.setattr(pretrain, "train_loop", train)
    return kept
