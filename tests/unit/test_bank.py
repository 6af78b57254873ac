"""The feature bank: what it holds, how it is stored, and builds that are killed and go on."""

import json
import random
import shutil
from dataclasses import replace

import pytest
import torch
from toy_bank import toy_bank

from adafuse_lite import (
    FeatureBank,
    InputError,
    load_bank,
    load_benchmark,
    load_encoder,
    load_generator,
)
from adafuse_lite.bank import FLOATS, read_field
from adafuse_lite.files import read_tensors, write_tensors
from adafuse_lite.names import bundled
from adafuse_lite.postcards.probe import load_probe


def equal(a, b):
    """Whether two banks hold the same, to the last bit."""
    if a._tensors().keys() != b._tensors().keys() or a.meta != b.meta:
        return False
    return all(torch.equal(t, b._tensors()[name]) for name, t in a._tensors().items())


def test_a_bank_read_back_is_the_bank_that_was_built(whole):
    bank, folder = whole
    assert equal(FeatureBank.load(folder), bank)
    assert not list((folder / "parts").iterdir())
    stored = read_tensors(folder / "text.safetensors", "")
    assert stored["rows"].dtype == torch.float16


def test_a_bank_shows_itself_in_a_line(whole):
    shown = repr(whole[0])
    assert shown == (
        "FeatureBank(postcards/visdial/validation: 5 dialogues x 3 rounds, 30 pictures, 16 wide)"
    )


@pytest.mark.parametrize("name", FLOATS)
def test_features_that_are_not_finite_enter_no_bank(whole, name):
    held = whole[0]._tensors() | {"meta": {}}
    held[name] = held[name].clone()
    held[name].view(-1)[7] = float("inf")
    with pytest.raises(InputError, match=f"field {name} holds NaN or infinite numbers"):
        FeatureBank(**held)


@pytest.mark.parametrize("name", ["text", "prompt", "generated"])
def test_a_field_that_is_not_finite_is_told_by_its_place(name):
    bank = toy_bank()
    getattr(bank, name)[7, 2, 0] = float("nan")
    with pytest.raises(InputError, match=f"{name} features of query 7, round 2 are not finite"):
        read_field(bank, name)
    with pytest.raises(InputError, match="no features 'pictures'"):
        read_field(bank, "pictures")


def test_repeated_rows_are_stored_once(whole, tmp_path):
    bank, _ = whole
    again = FeatureBank(**{**bank.__dict__, "generated": bank.generated[:, :1].expand(-1, 3, -1)})
    again.save(tmp_path)
    assert read_tensors(tmp_path / "generated.safetensors", "")["rows"].shape[0] == 5
    assert equal(FeatureBank.load(tmp_path), again)


def test_a_bank_of_another_model_is_refused(whole, clip):
    bank, _ = whole
    assert bank.check(encoder_hash=clip.hash) is bank
    with pytest.raises(InputError, match="made by encoder .* not by 0123"):
        bank.check(encoder_hash="0123")
    with pytest.raises(InputError, match="made by generator"):
        bank.check(encoder_hash=clip.hash, generator_hash="0123")


def test_damaged_banks_are_refused(whole, tmp_path):
    copy = lambda name: shutil.copytree(whole[1], tmp_path / name)
    folder = copy("truncated")
    path = folder / "generated.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match="generated.safetensors is truncated"):
        FeatureBank.load(folder)
    path.unlink()
    with pytest.raises(InputError, match="generated.safetensors is missing"):
        FeatureBank.load(folder)
    (folder / "bank.json").write_text("{")
    with pytest.raises(InputError, match="bank.json is no valid JSON"):
        FeatureBank.load(folder)
    (folder / "bank.json").write_text("{}")
    with pytest.raises(InputError, match="does not list the fields"):
        FeatureBank.load(folder)
    with pytest.raises(InputError, match="bank.json is missing"):
        load_bank(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="no bundled bank klingon-test"):
        load_bank("postcards", style="klingon")


def exchange(path, tensors):
    """Put other tensors into a bank's file and into its list of checksums,
    as a faulty builder would."""
    listing = path.with_name("bank.json")
    meta = json.loads(listing.read_text())
    meta["fields"][path.stem] = write_tensors(path, tensors)
    listing.write_text(json.dumps(meta))


@pytest.mark.parametrize("change", [lambda t: t.roll(1, 0), lambda t: t[:, :-1]])
def test_a_file_of_another_bank_is_refused(whole, tmp_path, change):
    folder = shutil.copytree(whole[1], tmp_path / "bank")
    path = folder / "corpus.safetensors"
    write_tensors(path, {"values": change(read_tensors(path, "")["values"])})
    with pytest.raises(InputError, match="corpus.safetensors does not hold what was stored"):
        FeatureBank.load(folder)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("corpus", lambda t: t[:, :-1], r"field corpus has shape \[30, 15\]"),
        ("corpus", lambda t: t * torch.nan, "field corpus holds NaN"),
        ("corpus", lambda t: t[:2], "field target points outside"),
        ("seeds", lambda t: t[:3], "field seeds has shape"),
        ("seeds", lambda t: t.float(), "field seeds holds torch.float32"),
        ("cut", lambda t: t[0], "field cut has shape"),
    ],
)
def test_wrong_tensors_are_refused(whole, tmp_path, name, change, message):
    folder = shutil.copytree(whole[1], tmp_path / "bank")
    path = folder / f"{name}.safetensors"
    exchange(path, {"values": change(read_tensors(path, "")["values"])})
    with pytest.raises(InputError, match=message) as refused:
        FeatureBank.load(folder)
    assert str(refused.value).startswith(f"{folder}: ")


def test_wrong_rows_are_refused(whole, tmp_path):
    folder = shutil.copytree(whole[1], tmp_path / "bank")
    path = folder / "prompt.safetensors"
    held = read_tensors(path, "")
    exchange(path, {**held, "rows": held["rows"][:1]})
    with pytest.raises(InputError, match="prompt.safetensors lacks rows"):
        FeatureBank.load(folder)


# --- the bundled banks ----------------------------------------------------------------------------

FOLDERS = sorted(p.parent for p in bundled("postcards", "banks").glob("*/bank.json"))


def test_banks_are_bundled():
    assert {"visdial-train", "visdial-validation", "visdial-test"} <= {f.name for f in FOLDERS}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_bundled_entries_come_out_the_same_when_made_anew(folder, count=16):
    """Drawn, encoded and read again through the pipelines,
    a random sample agrees with what is stored."""
    style, split, *kind = folder.name.split(
        "-"
    )  # visdial-test-steps2: the first test dialogues, drawn in another way
    bank, benchmark = (
        load_bank("postcards", style, folder.name.removeprefix(f"{style}-")),
        load_benchmark("postcards", style, split),
    )
    if kind:
        benchmark = benchmark.limit(len(bank.target), 0)
    if kind == ["rawprompt"]:
        raw = [
            [benchmark.text(q, r) for r in range(benchmark.rounds)] for q in range(len(bank.target))
        ]
        benchmark = replace(benchmark, prompts=raw)
    encoder, generator, probe = (
        load_encoder(device="cpu"),
        load_generator(device="cpu"),
        load_probe(),
    )
    generator.steps, generator.guidance = (
        bank.meta["settings"]["steps"],
        bank.meta["settings"]["guidance"],
    )
    bank.check(encoder.hash, generator.hash)
    assert bank.meta["probe"] == probe.hash
    q, r = (random.Random(folder.name).choices(range(n), k=count) for n in bank.text.shape[:2])
    names = [
        benchmark.corpus[i] for i in random.Random(0).sample(range(len(benchmark.corpus)), count)
    ]
    prompts = [benchmark.prompt(*place) for place in zip(q, r)]
    drawn = generator(prompts, seeds=bank.seeds[q])
    fresh = {
        "text": encoder.encode_text([benchmark.text(*place) for place in zip(q, r)]),
        "prompt": encoder.encode_text(prompts),
        "generated": encoder.encode_images(drawn),
        "corpus": encoder.encode_images([benchmark.picture(name) for name in names]),
    }
    for name, features in fresh.items():
        places = [benchmark.places[n] for n in names]
        held = bank.corpus[places] if name == "corpus" else getattr(bank, name)[q, r]
        cosine = (features * torch.nn.functional.normalize(held, dim=-1)).sum(1)
        assert cosine.median() >= 0.99 and cosine.min() >= 0.95, name
    assert bank.target.tolist() == benchmark.targets
    assert (bank.readings[q, r] == probe.read(drawn)).float().mean() >= 0.95
