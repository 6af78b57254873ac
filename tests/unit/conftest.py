"""Small things that several rooms are tested with, made once."""

import pytest
import tiny_models
import torch
from PIL import Image

from adafuse_lite import build_bank, load_benchmark, load_encoder, load_generator
from adafuse_lite.postcards import render, world
from adafuse_lite.postcards.probe import Probe, load_probe


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Tiny random models in folders: clip, diffusion, blip."""
    folder = tmp_path_factory.mktemp("models")
    tiny_models.write_encoder(folder / "clip")
    tiny_models.write_generator(folder / "diffusion")
    tiny_models.write_blip(folder / "blip")
    return folder


@pytest.fixture(scope="session")
def clip(models):
    """The tiny encoder."""
    return load_encoder(str(models / "clip"), device="cpu")


@pytest.fixture(scope="session")
def probe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe")
    torch.manual_seed(0)
    Probe().save(folder)
    return load_probe(folder)


@pytest.fixture(scope="session")
def album(tmp_path_factory):
    """A folder of photographs as people have them."""
    folder = tmp_path_factory.mktemp("album")
    for i, scene in enumerate(world.scenes("models", 6)):
        kind = ("jpg", "png", "webp")[i % 3]
        path = folder / ("holiday" if i > 3 else ".") / f"{i}.{kind}"
        path.parent.mkdir(exist_ok=True)
        render.draw(scene).save(path)
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "half.jpg").write_bytes(
        (folder / "3.jpg").read_bytes()[:700]
    )  # a download that broke off
    (folder / "phone.heic").write_bytes(b"another kind")
    (folder / "notes.txt").write_text("not looked at")
    turned = Image.new("RGB", (40, 20), "red")
    exif = turned.getexif()
    exif[0x0112] = 6  # the camera was held upright
    turned.save(folder / "upright.jpg", exif=exif)
    return folder


@pytest.fixture(scope="session")
def few():
    """Three dialogues and eight pictures of Postcards."""
    return load_benchmark("postcards", split="validation").limit(3, 8)


@pytest.fixture(scope="session")
def five():
    """Five dialogues and thirty pictures of Postcards."""
    return load_benchmark("postcards", style="visdial", split="validation").limit(5, pictures=30)


@pytest.fixture(scope="session")
def whole(five, clip, models, probe, tmp_path_factory):
    """An unbroken build and its folder."""
    generator = load_generator(str(models / "diffusion"), device="cpu")
    generator.batch = 4
    folder = tmp_path_factory.mktemp("bank")
    return build_bank(five, clip, generator, probe, rounds=3, out=folder), folder
