"""Heads in files: stored and loaded, their card, published checkpoints, what is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_fusion import SMALL, pair

from adafuse_lite import AdaFuSE, ExpertsOnly, GateOnly, InputError

REFERENCE = load_file(Path(__file__).parent / "data" / "reference_head_small.safetensors")
WEIGHTS = {k.removeprefix("weights."): v for k, v in REFERENCE.items() if k.startswith("weights.")}


def test_published_weights_give_the_reference_outputs():
    fused = AdaFuSE.from_reference(WEIGHTS)(REFERENCE["input.text"], REFERENCE["input.image"])
    assert fused.query.numpy().shape == (len(fused.query), 24)  # ready for an index
    for name, value in fused._asdict().items():
        assert (value - REFERENCE[f"output.{name}"]).abs().max() <= 1e-6, name


@pytest.mark.parametrize("head", [AdaFuSE, GateOnly, ExpertsOnly])
def test_saved_and_loaded_is_the_same(head, tmp_path, capsys):
    model = head(**SMALL, zero_init=False).eval()
    model.encoder_hash = "abc"
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["encoder_hash"] == "abc"
    again = head.from_pretrained(tmp_path)
    assert not again.training and again.encoder_hash == "abc" and capsys.readouterr().out == ""
    assert torch.equal(again(*pair()).query, model(*pair()).query)


@pytest.mark.parametrize("head", [AdaFuSE, GateOnly, ExpertsOnly])
def test_a_loaded_head_is_frozen_until_it_is_to_learn_on(head, tmp_path):
    head(**SMALL).save_pretrained(tmp_path)
    loaded = head.from_pretrained(tmp_path)
    assert loaded(*pair()).query.numpy().shape == (5, 12)  # ready for an index
    assert not any(p.requires_grad for p in loaded.parameters())
    loaded.requires_grad_()
    assert loaded(*pair()).query.requires_grad


def test_the_bundled_head_is_frozen_too():
    head = AdaFuSE.from_pretrained("postcards")
    assert not head.training and not any(p.requires_grad for p in head.parameters())


def test_the_card_says_what_a_head_was_trained_on(tmp_path):
    head = AdaFuSE(16, 8, 8, encoder_hash="abc", trained_on="3 dialogues about barns")
    head.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "3 dialogues about barns" in card and "| abc |" in card and "adafuse-lite" in card
    again = AdaFuSE.from_pretrained(tmp_path)
    assert (again.trained_on, again.encoder_hash) == ("3 dialogues about barns", "abc")
    again.trained_on = "something else"
    again.save_pretrained(tmp_path)
    assert "something else" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("dynamic_scalar.0.bias"), "dynamic_scalar.0.bias is missing"),
        (lambda w: w.pop("moe_router.2.weight"), "moe_router.2.weight"),
        (lambda w: w.update(extra=torch.ones(1)), "extra is .* where nothing"),
        (lambda w: w.update({"output_layer.weight": torch.ones(3, 64)}), "output_layer.weight is"),
    ],
)
def test_unfit_checkpoints_are_refused(change, message):
    weights = dict(WEIGHTS)
    change(weights)
    with pytest.raises(InputError, match=message):
        AdaFuSE.from_reference(weights)


def test_unfit_folders_are_refused(tmp_path):
    head = tmp_path / "head"
    with pytest.raises(InputError, match="is no folder"):
        AdaFuSE.from_pretrained(head)
    GateOnly(**SMALL).save_pretrained(head)
    with pytest.raises(InputError, match="Missing key"):
        AdaFuSE.from_pretrained(head)
    weights = head / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="truncated"):
        GateOnly.from_pretrained(head)
    weights.unlink()
    with pytest.raises(InputError, match="is missing"):
        GateOnly.from_pretrained(str(head))
