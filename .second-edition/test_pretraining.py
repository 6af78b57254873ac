"""The trainings of the second edition's models: a few steps of each, and what goes on after a
break."""

import pytest
import torch

from adafuse_lite import world
from adafuse_lite.postcards import judging, pretraining


@pytest.fixture(scope="module")
def tokenizer():
    return pretraining.tokenizer_of()


@pytest.fixture(scope="module")
def scenes():
    return world.scenes("models", 24)


@pytest.fixture(scope="module")
def pixels(scenes):
    return judging.draw(scenes)


@pytest.fixture(autouse=True)
def few_judged(monkeypatch):
    for name in ("judge_encoder", "judge_autoencoder", "judge_generator"):
        monkeypatch.setattr(judging, name, lambda *args, **options: {})


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


def test_a_broken_training_ends_as_an_unbroken_one(tmp_path):
    def run(out, steps_now):
        torch.manual_seed(0)
        model, count = torch.nn.Linear(4, 4), [0]

        def loss(step, rng):
            if count[0] == steps_now:
                raise KeyboardInterrupt
            count[0] += 1
            return (model(torch.randn(8, 4).to(pretraining.device())) - 1).square().mean(), {}

        return pretraining.train(
            out, "line", 6, 0.1, loss, dict(model=model), average=["model"], warmup=1
        )

    whole, log = run(tmp_path / "whole", None)
    pretraining.SAVE_EVERY, kept = 0, pretraining.SAVE_EVERY
    try:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "broken", 3)
        again, relog = run(tmp_path / "broken", None)
    finally:
        pretraining.SAVE_EVERY = kept
    assert log == relog
    assert all(same(whole[name], again[name]) for name in ("model", "model average"))


def test_the_encoder_is_a_plain_open_clip_model(tokenizer, scenes, pixels, tmp_path):
    from adafuse_lite.encoders import load_encoder, save_encoder

    model, log = pretraining.train_encoder(
        tmp_path, tokenizer, scenes, pixels, steps=2, batch=8, captioned=4
    )
    assert {"loss", "contrast", "caption", "spotted", "accuracy"} <= set(log[-1])
    save_encoder(model, pretraining.encoder_config(len(tokenizer)), tokenizer, tmp_path / "encoder")
    encoder = load_encoder(tmp_path / "encoder")
    texts = ["a red car", "a house on the left under a blue sky"]
    with torch.no_grad():
        ours = pretraining.encode_text(model, pretraining.tokens_of(tokenizer, texts))
    assert torch.allclose(ours, encoder.encode_text(texts), atol=5e-3)


def test_padding_does_not_count(tokenizer):
    """A caption's loss is the same beside a longer one."""
    torch.manual_seed(0)
    captioner = pretraining.Captioner(len(tokenizer)).to(pretraining.device()).eval()
    embedding = torch.nn.functional.normalize(torch.randn(1, 128)).to(pretraining.device())
    alone = pretraining.tokens_of(tokenizer, ["a red car"])
    padded = pretraining.tokens_of(tokenizer, ["a red car", "a house on the left"])[:1]
    weights, end = pretraining.telling(tokenizer), tokenizer.eos_token_id
    losses = [
        pretraining.caption_loss(captioner, embedding, t, end, weights)[0] for t in (alone, padded)
    ]
    assert torch.allclose(*losses, atol=1e-5)


def test_a_generator_is_trained_and_loads(tokenizer, scenes, pixels, tmp_path):
    from adafuse_lite.generators import load_generator

    autoencoder, _ = pretraining.train_autoencoder(
        tmp_path / "autoencoder", pixels, steps=2, batch=4
    )
    reader, _ = pretraining.train_reader(tmp_path / "reader", tokenizer, scenes, steps=2, batch=4)
    unet, log = pretraining.train_unet(
        tmp_path / "unet", tokenizer, reader, autoencoder, scenes, pixels, steps=2, batch=4
    )
    assert len(log) == 2
    pictures = pretraining.drawn(tokenizer, reader, autoencoder, unet, ["a red car"] * 2)
    assert pictures.shape == (2, 3, 64, 64)
    pretraining.save(tmp_path, tmp_path / "models")
    assert load_generator(tmp_path / "models/generator")(["a red car"])[0].size == (64, 64)
    assert (tmp_path / "models/logs/unet.csv").read_text().startswith("step,loss")


def test_a_linear_probe_reads_what_is_there(scenes):
    codes = judging.codes_of(world.scenes("models", 300))
    hot = torch.cat(
        [torch.nn.functional.one_hot(codes[:, i], n) for i, n in enumerate(judging.SIZES)], 1
    )
    seen = judging.linear_probe(hot[:200].float(), codes[:200], hot[200:].float(), codes[200:])
    assert min(seen.values()) > 0.9
    blind = judging.linear_probe(torch.randn(200, 4), codes[:200], torch.randn(100, 4), codes[200:])
    assert blind["animal"] < 0.5


def test_sameness_knows_chance_from_habit():
    torch.manual_seed(0)
    facts, draw = [{}] * 400, lambda: torch.randint(0, 3, (400, 18))
    one = draw()
    assert judging.sameness(one, one, facts) == pytest.approx(2 / 3, abs=0.05)
    assert judging.sameness(one, draw(), facts) == pytest.approx(0, abs=0.05)


def test_share_right_counts_stated_facts_only(scenes):
    codes = judging.codes_of(scenes[:2])
    facts = [{"sky": scenes[0].sky}, {"sky": scenes[1].sky, "roof": "none"}]
    facts[1]["roof"] = next(r for r in world.ATTRIBUTES["roof"] if r != scenes[1].roof)
    assert judging.share_right(codes, facts) == pytest.approx(2 / 3)
