"""The trainings of the bundled models: a few steps of each,
and what an interruption leaves behind."""

import random

import pytest
import torch
from write_log import write_log

from adafuse_lite.postcards import pretrain, render, world


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return pretrain.train_tokenizer(tmp_path_factory.mktemp("tokenizer"), count=500)


@pytest.fixture(scope="module")
def scenes():
    return world.scenes("models", 24)


@pytest.fixture(scope="module")
def pixels(scenes):
    return pretrain.pictures(scenes)


def test_the_end_token_is_the_last_one(tokenizer):
    """CLIP pools at the highest token of a text."""
    tokens = tokenizer("a red car").input_ids
    assert tokens[-1] == tokenizer.eos_token_id == len(tokenizer) - 1


def test_the_tokenizer_reads_every_text(tokenizer):
    text = "a naïve ☃ car"
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True).strip() == text


def test_short_texts_are_encoded_as_open_clip_does(tokenizer, scenes, pixels, tmp_path):
    model, _ = pretrain.train_encoder(tmp_path, tokenizer, scenes, pixels, steps=1, batch=8)
    texts = ["a red car", "a house on the left under a blue sky"]
    short = tokenizer(texts, padding="longest", return_tensors="pt").input_ids
    full = pretrain.generator_tokens(tokenizer, texts)
    with torch.no_grad():
        ours = pretrain.encode_short(model, short)
        theirs = model.encode_text(full, normalize=True)
    assert torch.allclose(ours, theirs, atol=1e-5)


class Killed(Exception):
    pass


def losses(log):
    return [entry["loss"] for entry in log]


def test_an_interrupted_training_ends_as_an_unbroken_one(tmp_path):
    def run(out, kill_at=None):
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 4)

        def loss(step, rng):
            if step == kill_at:
                raise Killed
            x = torch.randn(8, 4) + rng.random()
            return (model(x) - x).square().mean(), {"half": 0.5}

        return model, pretrain.train_loop(
            out, "toy", 10, 1e-2, loss, save_every=3, warmup=2, model=model
        )

    model, log = run(tmp_path / "unbroken")
    with pytest.raises(Killed):
        run(tmp_path / "broken", kill_at=7)
    again, log_again = run(tmp_path / "broken")
    assert losses(log) == losses(log_again) and len(log) == 10 and log[0]["half"] == 0.5
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters()))


def test_a_generator_of_a_few_steps_is_a_pipeline(tokenizer, scenes, pixels, tmp_path):
    from diffusers import StableDiffusionPipeline

    autoencoder, log = pretrain.train_autoencoder(tmp_path / "a", pixels, steps=2, batch=4)
    assert log[-1]["psnr"] > 0
    reader, _ = pretrain.train_reader(tmp_path / "r", tokenizer, scenes, steps=2, batch=4)
    unet, log = pretrain.train_unet(
        tmp_path / "u", tokenizer, reader, autoencoder, scenes, pixels, steps=2, batch=4
    )
    assert len(log) == 2
    pretrain.save_generator(tmp_path / "g", tokenizer, reader, autoencoder, unet)
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "g", torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline(
        "a red car", num_inference_steps=2, generator=torch.Generator().manual_seed(0)
    ).images[0]
    assert picture.size == (render.SIZE, render.SIZE)
    assert not list((tmp_path / "g").rglob("*.bin"))


def test_no_training_scene_is_in_a_split():
    models = set(world.scenes("models", 300))
    assert not models & {
        s for split in ("train", "validation", "test") for s in world.scenes(split, 100)
    }


def test_short_captions_are_short(tokenizer, scenes):
    rng = random.Random(0)
    lengths = [len(tokenizer(pretrain.short_caption(s, rng)).input_ids) for s in scenes]
    assert max(lengths) <= pretrain.SHORT


def test_log_keeps_every_tenth_step(tmp_path):
    step = torch.nn.Linear(1, 1)
    log = pretrain.train_loop(
        tmp_path, "line", 21, 1e-3, lambda i, rng: (step.weight.sum(), {"more": i}), line=step
    )
    write_log(tmp_path / "checkpoint.safetensors", tmp_path / "logs" / "line.csv")
    lines = (tmp_path / "logs" / "line.csv").read_text().splitlines()
    assert lines[0] == "step,loss,more" and [int(s.split(",")[0]) for s in lines[1:]] == [0, 10, 20]
    assert float(lines[2].split(",")[1]) == log[10]["loss"]
