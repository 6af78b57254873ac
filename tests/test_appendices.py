"""What A1 and A2 define by hand is what the training functions compute."""

import ast
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from notebook_kit import ROOT, read, source

from adafuse_lite import pretrain, world


def defined(notebook, *names):
    """The functions of these names as the notebook defines them."""
    space = {"torch": torch, "F": F, "np": np, "pretrain": pretrain}
    for cell in read(ROOT / "notebooks" / f"{notebook}.ipynb")["cells"]:
        if cell["cell_type"] == "code" and not source(cell).startswith("import importlib"):
            for node in ast.parse(source(cell)).body:
                if isinstance(node, ast.FunctionDef) and node.name in names:
                    exec(compile(ast.Module([node], []), notebook, "exec"), space)
    return [space[name] for name in names]


@pytest.fixture
def caught(monkeypatch):
    """Instead of training, keep the loss function and the modules that were to be trained."""
    kept = {}

    def train(out, name, steps, lr, loss, **modules):
        kept.update(modules, loss=loss)
        return []

    monkeypatch.setattr(pretrain, "train", train)
    return kept


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return pretrain.train_tokenizer(tmp_path_factory.mktemp("tokenizer"), count=200)


@pytest.fixture(scope="module")
def some():
    scenes = world.scenes("models", 12)
    return scenes, pretrain.pictures(scenes)


@pytest.mark.parametrize("scale", [0.0, 1.0, 14.3, 100.0])
def test_contrastive_loss_of_a1_is_two_cross_entropies(scale):
    (loss,) = defined("A1_tiny_clip", "contrastive_loss")
    torch.manual_seed(0)
    images, texts = F.normalize(torch.randn(2, 20, 96), dim=-1)
    scores, pair = scale * images @ texts.T, torch.arange(20)
    wanted = (F.cross_entropy(scores, pair) + F.cross_entropy(scores.T, pair)) / 2
    torch.testing.assert_close(loss(images, texts, scale), wanted)


def test_training_of_the_encoder_uses_the_loss_of_a1(caught, tokenizer, some, tmp_path):
    (loss,) = defined("A1_tiny_clip", "contrastive_loss")
    scenes, pixels = some
    pretrain.train_encoder(tmp_path, tokenizer, scenes, pixels, batch=8)
    model = caught["model"].eval()
    value, more = caught["loss"](0, random.Random(5))

    rng = random.Random(5)
    chosen = rng.sample(range(len(scenes)), 8)
    texts = [pretrain.short_caption(scenes[i], rng) for i in chosen]
    tokens = tokenizer(texts, padding="max_length", max_length=77, return_tensors="pt").input_ids
    images = model.encode_image(pixels[chosen].float() / 127.5 - 1, normalize=True)
    wanted = loss(images, model.encode_text(tokens, normalize=True), model.logit_scale.exp())
    torch.testing.assert_close(value, wanted, atol=1e-4, rtol=1e-4)
    assert 0 <= more["accuracy"] <= 1


def test_psnr_of_a2_is_that_of_the_log(caught, some, tmp_path):
    (psnr,) = defined("A2_tiny_diffusion", "psnr")
    scenes, pixels = some
    pretrain.train_autoencoder(tmp_path, pixels, batch=4)
    torch.manual_seed(0)
    _, more = caught["loss"](0, random.Random(5))

    x = pixels[random.Random(5).sample(range(len(pixels)), 4)].float() / 127.5 - 1
    torch.manual_seed(0)
    latents = caught["model"].encode(x).latents
    back = caught["model"].decode(latents + 0.1 * torch.randn_like(latents)).sample
    assert psnr(x, back) == pytest.approx(more["psnr"].item(), abs=1e-2)


def test_solutions_of_the_exercises():
    (clean_from,) = defined("A2_tiny_diffusion", "solution")
    x, e = torch.randn(2, 3, 12, 8, 8)
    torch.testing.assert_close(clean_from(0.6 * x + 0.8 * e, 0.6 * e - 0.8 * x, 0.6, 0.8), x)

    (averaged,) = defined("A1_tiny_clip", "solution")

    class Encoder:
        def encode_text(self, texts):
            return F.normalize(torch.tensor([[len(t), 1.0] for t in texts]), dim=1)

    assert averaged(Encoder(), ["a", "longer"]).norm().item() == pytest.approx(1)


def test_log_keeps_every_tenth_step(tmp_path):
    step = torch.nn.Linear(1, 1)
    log = pretrain.train(tmp_path, "line", 21, 1e-3, lambda i, rng: (step.weight.sum(), {"more": i}), line=step)
    pretrain.write_log(tmp_path / "checkpoint.safetensors", tmp_path / "logs" / "line.csv")
    lines = (tmp_path / "logs" / "line.csv").read_text().splitlines()
    assert lines[0] == "step,loss,more" and [int(s.split(",")[0]) for s in lines[1:]] == [0, 10, 20]
    assert float(lines[2].split(",")[1]) == log[10]["loss"]
