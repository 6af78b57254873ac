"""Generators: diffusers pipelines from local directories, the same pictures whatever the batch."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from diffusers import StableDiffusionPipeline

from adafuse_lite import Drawings, InputError, build_bank, load_encoder, load_generator
from adafuse_lite.generators import SETTINGS

PROMPTS = ["a house", "a red barn on the left", "two palm trees and a bus"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generator")
    tiny_models.write_generator(folder)
    return folder


@pytest.fixture(scope="module")
def generator(folder):
    return load_generator(str(folder), device="cpu")


def difference(a, b):
    return np.abs(np.asarray(a, float) - np.asarray(b, float)).max()


def test_the_pipeline_loads_unchanged(folder, generator):
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    assert type(generator.pipeline) is StableDiffusionPipeline and pipeline.safety_checker is None
    pipeline.set_progress_bar_config(disable=True)
    noise = [torch.Generator().manual_seed(7) for _ in PROMPTS]
    found = pipeline(PROMPTS, num_inference_steps=3, guidance_scale=3.0, generator=noise).images
    assert all(difference(a, b) <= 1 for a, b in zip(found, generator(PROMPTS, seed=7)))


def test_pictures_are_postcards(generator):
    (image,) = generator(["a house"])
    assert image.size == (64, 64) and image.mode == "RGB"
    assert generator([]) == []


def test_same_prompt_and_seed_give_the_same_picture_in_any_batch(generator, monkeypatch):
    together = generator(PROMPTS, seeds=[1, 2, 3])
    monkeypatch.setattr(generator, "batch", 2)
    apart = generator(PROMPTS[::-1], seeds=[3, 2, 1])[::-1]
    assert all(difference(a, b) <= 1 for a, b in zip(together, apart))
    assert difference(together[0], generator(PROMPTS[:1], seeds=[9])[0]) > 1
    assert difference(together[0], generator(PROMPTS[:1], seeds=[1], guidance=1.0)[0]) > 0


def test_settings_come_from_the_directory_and_count_in_the_hash(folder, generator, tmp_path):
    assert (generator.steps, generator.guidance) == (3, 3.0)
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert load_generator(str(copy)).hash == generator.hash
    (copy / SETTINGS).write_text(json.dumps({"steps": 4, "guidance": 3.0}))
    assert load_generator(str(copy)).hash != generator.hash
    (copy / SETTINGS).unlink()
    assert load_generator(str(copy)).steps == 25


def test_cut_prompts_are_counted(generator):
    assert generator.cut(["a house", "a house, " * 60]) == [False, True]


def test_nothing_is_printed(folder, capfd):
    load_generator(str(folder))(["a house, " * 60])
    assert capfd.readouterr() == ("", "")


def test_bad_input_is_refused(folder, generator, tmp_path):
    with pytest.raises(InputError, match="3 prompts but 1 seeds"):
        generator(PROMPTS, seeds=[1])
    with pytest.raises(InputError, match="Text 0 is empty"):
        generator([""])
    with pytest.raises(InputError, match="is no folder"):
        load_generator(str(tmp_path / "nowhere"))
    copy = shutil.copytree(folder, tmp_path / "copy")
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(InputError, match="diffusion_pytorch_model.safetensors is truncated"):
        load_generator(str(copy))
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(InputError, match="safetensors"):
        load_generator(str(copy))
    (copy / "model_index.json").unlink()
    with pytest.raises(InputError, match="model_index.json is missing"):
        load_generator(str(copy))


# --- families and drawings made earlier -----------------------------------------------------------


def test_families_have_sensible_settings(models, tmp_path):
    import shutil

    for name, wanted in (
        ("sd-turbo", (1, 0.0)),
        ("sdxl-lightning", (4, 0.0)),
        ("stable-diffusion-v1-5", (25, 7.5)),
    ):
        folder = Path(shutil.copytree(models / "diffusion", tmp_path / name))
        (folder / "adafuse_lite.json").unlink()
        generator = load_generator(str(folder), device="cpu")
        assert (generator.steps, generator.guidance) == wanted


def test_withheld_pictures_are_counted(models):
    generator = load_generator(str(models / "diffusion"), device="cpu")
    whole = generator.pipeline.__class__.__call__

    def checked(self, *args, **kwargs):
        drawn = whole(self, *args, **kwargs)
        drawn.nsfw_content_detected = [True, False]
        return drawn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generator.pipeline.__class__, "__call__", checked)
        assert len(generator(["a", "b"])) == 2 and generator.withheld == 1


def test_drawings_made_earlier_take_the_generators_place(models, few, tmp_path):
    encoder, generator = (
        load_encoder(str(models / "clip"), device="cpu"),
        load_generator(str(models / "diffusion"), device="cpu"),
    )
    wanted = build_bank(few, encoder, generator, rounds=2)
    made = {
        (q, r): generator([few.prompt(q, r)], seeds=[int(wanted.seeds[q])])[0]
        for q in range(3)
        for r in range(2)
    }
    bank = build_bank(few, encoder, Drawings(made), rounds=2)
    torch.testing.assert_close(bank.generated, wanted.generated, atol=2e-3, rtol=0)
    dar, training = tmp_path / "dar", tmp_path / "adafuse"
    for (q, r), picture in made.items():
        stem = Path(few.dialogues[q].img).stem
        for path in (dar / f"{q}_{r}.png", training / f"round{r}" / f"train-{stem}_{r}.jpg"):
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path, quality=95)
    torch.testing.assert_close(
        build_bank(few, encoder, Drawings(dar), rounds=2).generated,
        wanted.generated,
        atol=2e-3,
        rtol=0,
    )
    lossy = build_bank(few, encoder, Drawings(training), rounds=2)
    assert (lossy.generated * wanted.generated).sum(-1).min() > 0.8
    assert lossy.meta["generator"] != bank.meta["generator"]


def test_drawings_that_lack_something_are_refused(few, tmp_path):
    with pytest.raises(InputError, match="no folder"):
        Drawings(tmp_path / "nowhere")
    with pytest.raises(InputError, match="dialogue 0, round 0"):
        Drawings(tmp_path).jobs(few, 1)
    with pytest.raises(InputError, match=r"under \(0, 0\)"):
        Drawings({}).jobs(few, 1)
    (tmp_path / "0_0.jpg").write_bytes(b"no picture")
    drawings = Drawings(tmp_path)
    ((name,),) = drawings.jobs(few.limit(1), 1)
    with pytest.raises(InputError, match="0_0.jpg does not decode"):
        drawings([name])
