"""Training: it learns, it can be killed at any moment, and it refuses what it cannot use."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from toy_bank import toy_bank

from adafuse_lite import (
    DAR,
    AdaFuSE,
    CosineGate,
    ExpertsOnly,
    FixedWeight,
    GateOnly,
    InputError,
    build_bank,
    fit,
    fusion,
    load_encoder,
    load_generator,
    rank_table,
    recall_at_k,
    seed_everything,
    sources,
    train,
    tune_fixed_weight,
)
from adafuse_lite.train import learning_rate

BANK, VALIDATION = toy_bank(150, seed=0), toy_bank(seed=1)
SHORT = dict(epochs=4, batch_size=32, device="cpu", progress=False)


def small(kind=AdaFuSE, seed=0):
    seed_everything(seed)
    return CosineGate() if kind is CosineGate else kind(12, projection_dim=8, hidden_dim=16)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


@pytest.mark.parametrize("kind", [AdaFuSE, GateOnly, ExpertsOnly, CosineGate])
def test_it_learns(kind):
    model = small(kind)
    history = fit(model, BANK, VALIDATION, **{**SHORT, "epochs": 20, "lr": 3e-3})
    assert history.loss[-1] < history.loss[0] and not model.training
    assert (
        len(history.loss) == len(history.recall) == len(history.gate) == len(history.routing) == 20
    )
    # what is left in the model is what did best on validation
    assert recall_at_k(rank_table(model, VALIDATION)).mean().item() == max(history.recall)
    assert history.recall[history.best_epoch] == max(history.recall)
    if kind in (AdaFuSE, ExpertsOnly):
        assert (
            sum(history.routing[-1]) == pytest.approx(1, abs=1e-5) and len(history.routing[-1]) == 4
        )


def test_the_temperature_is_learned():
    model = small()
    history = fit(model, BANK, VALIDATION, **SHORT)
    assert model.logit_scale.grad.abs() > 0 and abs(history.scale[-1] - 50) > 0.01


def test_seeds_decide_and_nothing_else_does():
    models = [small() for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1)):
        torch.rand(7)  # numbers drawn elsewhere in between
        before = torch.get_rng_state()
        fit(model, BANK, VALIDATION, seed=seed, **SHORT)
        assert torch.equal(before, torch.get_rng_state())
    assert same(models[0], models[1]) and not same(models[0], models[2])


def test_the_fields_can_be_chosen():
    models = [small(), small()]
    fit(models[0], BANK, VALIDATION, image="text", **SHORT)
    fit(models[1], BANK, VALIDATION, **SHORT)
    assert not same(*models)


def test_learning_rate_rises_and_falls():
    rates = [learning_rate(s, 100, 2.0, 10) for s in range(100)]
    assert rates[0] == pytest.approx(0.2) and max(rates) == pytest.approx(2.0) and rates[-1] < 0.01
    assert rates[:10] == sorted(rates[:10]) and rates[10:] == sorted(rates[10:], reverse=True)


# --- killed and resumed ---------------------------------------------------------------------------

KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[1].split(os.pathsep)
import test_train as here
model, calls = here.small(), []
def die(*_):
    calls.append(1)
    if len(calls) == 15:
        os.kill(os.getpid(), signal.SIGKILL)
model.register_forward_pre_hook(die)
here.fit(model, here.BANK, here.VALIDATION, checkpoint=sys.argv[2], **here.SHORT)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_in_an_epoch_and_resumed_is_the_same_as_unbroken(tmp_path):
    torch.manual_seed(0)
    file = tmp_path / "run" / "head.safetensors"
    run = [sys.executable, "-c", KILLED, os.pathsep.join(sys.path), str(file)]
    env = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    assert subprocess.run(run, env=env).returncode == -signal.SIGKILL
    assert file.exists()
    unbroken, resumed = small(), small(seed=9)
    wanted = fit(unbroken, BANK, VALIDATION, **SHORT)
    assert fit(resumed, BANK, VALIDATION, checkpoint=file, **SHORT) == wanted
    assert same(unbroken, resumed)
    # and a finished training is only read
    assert fit(small(seed=5), BANK, VALIDATION, checkpoint=file, **SHORT) == wanted


def test_a_kill_while_saving_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    file, replace, saved = tmp_path / "head.safetensors", os.replace, []

    def broken(*paths):
        saved.append(paths)
        if len(saved) == 3:
            raise KeyboardInterrupt
        replace(*paths)

    monkeypatch.setattr(os, "replace", broken)
    model = small()
    with pytest.raises(KeyboardInterrupt):
        fit(model, BANK, VALIDATION, checkpoint=file, **SHORT)
    monkeypatch.undo()
    unbroken = small()
    wanted = fit(unbroken, BANK, VALIDATION, **SHORT)
    assert fit(model, BANK, VALIDATION, checkpoint=file, **SHORT) == wanted and same(
        model, unbroken
    )


def test_foreign_and_broken_checkpoints_are_refused(tmp_path):
    file = tmp_path / "head.safetensors"
    fit(small(), BANK, VALIDATION, checkpoint=file, **SHORT)
    for change in (dict(seed=1), dict(lr=1e-4), dict(image="text")):
        with pytest.raises(InputError, match="belongs to another training"):
            fit(small(), BANK, VALIDATION, checkpoint=file, **SHORT, **change)
    with pytest.raises(InputError, match="model changed"):
        fit(small(GateOnly), BANK, VALIDATION, checkpoint=file, **SHORT)
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(
        InputError,
        match="head.safetensors is truncated or no safetensors file .*; delete it to start anew",
    ):
        fit(small(), BANK, VALIDATION, checkpoint=file, **SHORT)


# --- bad input ------------------------------------------------------------------------------------


def test_unfit_banks_and_models_are_refused():
    bank = toy_bank()
    bank.text[4, 1, 0] = float("nan")
    for banks in ((bank, VALIDATION), (BANK, bank)):
        with pytest.raises(InputError, match="text features of query 4, round 1 are not finite"):
            fit(small(), *banks, **SHORT)
    with pytest.raises(InputError, match="no parameters to train"):
        fit(DAR(), BANK, VALIDATION, **SHORT)
    with pytest.raises(InputError, match="12 wide and this head takes 16"):
        fit(AdaFuSE(16, 8, 16), BANK, VALIDATION, **SHORT)
    bank = toy_bank()
    bank.target[3] = 10_000
    with pytest.raises(InputError, match="outside its corpus"):
        fit(small(), bank, VALIDATION, **SHORT)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_training_on_a_gpu_resumes_to_the_same(tmp_path):
    file, models = tmp_path / "head.safetensors", [small(), small()]
    histories = [
        fit(m, BANK, VALIDATION, **{**SHORT, "device": "cuda"}, checkpoint=c)
        for m, c in zip(models, (None, file))
    ]
    assert histories[0] == histories[1] and same(*models)
    again = small(seed=3)
    assert (
        fit(again, BANK, VALIDATION, **{**SHORT, "device": "cuda"}, checkpoint=file) == histories[0]
    )
    assert same(again, models[0]) and models[0].logit_scale.is_cuda


# --- weights that are tuned, captions -------------------------------------------------------------


def test_tuned_weight_is_the_best_of_the_grid():
    bank = toy_bank(seed=1)
    recall = lambda model: recall_at_k(rank_table(model, bank))
    one, each = tune_fixed_weight(bank), tune_fixed_weight(bank, per_round=True)
    assert len(one.weights) == 1 and len(each.weights) == bank.text.shape[1]
    for w in torch.linspace(0, 1, 21):
        assert recall(one).mean() >= recall(FixedWeight(w)).mean()
        assert (recall(each) >= recall(FixedWeight(w))).all()


def test_a_weight_is_tuned_on_drawings_without_the_offset():
    bank = toy_bank()
    moved = SimpleNamespace(
        **{**vars(bank), "generated": bank.generated + 5 * F.normalize(torch.ones(12), dim=0)}
    )
    offset = fusion.OffsetRemoved.measure(moved) - fusion.OffsetRemoved.measure(bank)
    tuned = train.tune_fixed_weight(moved, offset=offset)
    torch.testing.assert_close(tuned.fusion.weights, train.tune_fixed_weight(bank).weights)


def test_a_head_is_trained_on_captions(models, album):
    from adafuse_lite import fit

    captions = {
        name: f"a red barn {i}"
        for i, name in enumerate(sources.photos(album, progress=False).corpus)
    }
    mine = sources.pairs(captions, album, progress=False)
    encoder, generator = (
        load_encoder(str(models / "clip"), device="cpu"),
        load_generator(str(models / "diffusion"), device="cpu"),
    )
    bank = build_bank(mine, encoder, generator)
    assert bank.text.shape == (7, 1, 16)
    head = AdaFuSE(16, 8, 8, encoder_hash=encoder.hash)
    fit(head, bank, bank, epochs=1, batch_size=4, progress=False)
    with pytest.raises(InputError, match="load that encoder or train another head"):
        head.check_encoder(load_encoder(str(models / "blip"), device="cpu").hash)
    with pytest.raises(InputError, match="no readable picture"):
        sources.pairs({"nobody.jpg": "a"}, album, progress=False)
    with pytest.raises(InputError, match="empty"):
        sources.pairs({"0.jpg": " "}, album, progress=False)
