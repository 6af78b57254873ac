"""The probe: reading attributes off postcards."""

import json
import shutil

import pytest
import torch
from PIL import Image

from adafuse_lite import InputError
from adafuse_lite.postcards import pretrain, render, world
from adafuse_lite.postcards.probe import FOLDER, SIZES, WEIGHTS, Probe, load_probe

SCENES = world.scenes("models", 64, 11)
bundled = pytest.mark.skipif(not (FOLDER / WEIGHTS).exists(), reason="data/models/probe is absent")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe")
    torch.manual_seed(0)
    probe = Probe()
    probe.save(folder, held_out={"sky": 0.2})
    return folder, probe


def test_stored_and_read_back(stored):
    folder, probe = stored
    again = load_probe(folder)
    images = [render.draw(s) for s in SCENES]
    assert (again.read(images) == probe.read(images)).float().mean() > 0.95
    assert len(again.hash) == 16 and load_probe(folder).hash == again.hash
    assert json.loads((folder / "probe.json").read_text())["held_out"] == {"sky": 0.2}


def test_readings_are_codes(stored):
    read = stored[1].read([render.draw(s) for s in SCENES], batch=10)
    assert read.shape == (64, 18) and read.dtype == torch.uint8
    assert (read < torch.tensor(SIZES)).all()
    assert stored[1].read([]).shape == (0, 18)


def test_training_learns_and_goes_on(tmp_path):
    pixels = pretrain.pictures(SCENES)
    probe, log = pretrain.train_probe(tmp_path, SCENES, pixels, 12, batch=32)
    assert log[-1]["loss"] < log[0]["loss"]
    again, more = pretrain.train_probe(tmp_path, SCENES, pixels, 12, batch=32)
    assert more == log
    images = [render.draw(s) for s in SCENES]
    assert torch.equal(again.read(images), probe.read(images))


def test_bad_input_is_refused(stored, tmp_path):
    with pytest.raises(InputError, match="Picture 0 is 32 x 64"):
        stored[1].read([Image.new("RGB", (32, 64))])
    with pytest.raises(InputError, match="probe.json is missing"):
        load_probe(tmp_path)
    folder = shutil.copytree(stored[0], tmp_path / "copy")
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-8])
    with pytest.raises(InputError, match="truncated"):
        load_probe(folder)
    card = json.loads((folder / "probe.json").read_text())
    card["attributes"]["sky"].append("green")
    (folder / "probe.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match="other attributes"):
        load_probe(folder)


@bundled
def test_the_bundled_probe_reads_held_out_renders():
    known = set(world.scenes("models", 40_000, 0))
    scenes = [s for s in world.scenes("models", 400, 7) if s not in known]
    read = load_probe().read([render.draw(s) for s in scenes])
    right = read == torch.tensor([s.codes() for s in scenes])
    assert right.float().mean(0).min() >= 0.98
