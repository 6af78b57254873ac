"""The feature bank: what it holds, how it is stored, and builds that are killed and go on."""

import json
import random
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import tiny_models
import torch

from adafuse_lite import (
    FeatureBank,
    InputError,
    build_bank,
    load_bank,
    load_benchmark,
    load_encoder,
    load_generator,
)
from adafuse_lite.build import main, query_seed
from adafuse_lite.files import read_tensors, write_tensors
from adafuse_lite.names import bundled
from adafuse_lite.postcards.probe import Probe, load_probe

ROUNDS = 3


@pytest.fixture(scope="module")
def benchmark():
    return load_benchmark("postcards", style="visdial", split="validation").limit(5, pictures=30)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tiny_models.write_encoder(folder / "encoder")
    tiny_models.write_generator(folder / "generator")
    return folder


@pytest.fixture(scope="module")
def encoder(stored):
    return load_encoder(str(stored / "encoder"), device="cpu")


@pytest.fixture
def generator(stored):
    generator = load_generator(str(stored / "generator"), device="cpu")
    generator.batch = 4
    return generator


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe")
    torch.manual_seed(0)
    Probe().save(folder)
    return load_probe(folder)


@pytest.fixture
def build(benchmark, encoder, generator, probe):
    return lambda **more: build_bank(benchmark, encoder, generator, probe, rounds=ROUNDS, **more)


@pytest.fixture(scope="module")
def whole(benchmark, encoder, stored, probe, tmp_path_factory):
    """An unbroken build and its folder."""
    generator = load_generator(str(stored / "generator"), device="cpu")
    generator.batch = 4
    folder = tmp_path_factory.mktemp("bank")
    return build_bank(benchmark, encoder, generator, probe, rounds=ROUNDS, out=folder), folder


def equal(a, b):
    """Whether two banks hold the same, to the last bit."""
    if a._tensors().keys() != b._tensors().keys() or a.meta != b.meta:
        return False
    return all(torch.equal(t, b._tensors()[name]) for name, t in a._tensors().items())


def test_fields_have_their_shapes(whole, benchmark, encoder, generator, probe):
    bank, _ = whole
    assert bank.text.shape == bank.prompt.shape == bank.generated.shape == (5, ROUNDS, encoder.dim)
    assert bank.corpus.shape == (30, encoder.dim) and bank.readings.shape == (5, ROUNDS, 18)
    assert bank.target.tolist() == benchmark.targets
    assert bank.seeds[0] == query_seed(0, "visdial", benchmark.dialogues[0].img)
    assert len(set(bank.seeds.tolist())) == 5
    assert bank.meta["encoder"] == encoder.hash and bank.meta["generator"] == generator.hash
    assert bank.meta["probe"] == probe.hash and bank.meta["settings"]["steps"] == 3


def test_features_stand_where_they_belong(whole, benchmark, encoder, generator, probe):
    bank, _ = whole
    for q, r in ((0, 0), (3, 2), (4, 1)):
        text, prompt = benchmark.text(q, r), benchmark.prompt(q, r)
        drawn = generator([prompt], seeds=[bank.seeds[q]])
        for found, expected in (
            (bank.text[q, r], encoder.encode_text([text])),
            (bank.prompt[q, r], encoder.encode_text([prompt])),
            (bank.generated[q, r], encoder.encode_images(drawn)),
        ):
            assert (found - expected[0]).abs().max() < 5e-3
        assert (bank.readings[q, r] == probe.read(drawn)[0]).float().mean() > 0.9
        assert bank.cut[q, r] == (encoder.count_tokens([text])[0] > 77)
    target = benchmark.picture(benchmark.dialogues[2].img)
    assert (bank.corpus[bank.target[2]] - encoder.encode_images([target])[0]).abs().max() < 5e-3


def test_a_bank_read_back_is_the_bank_that_was_built(whole):
    bank, folder = whole
    assert equal(FeatureBank.load(folder), bank)
    assert not list((folder / "parts").iterdir())
    stored = read_tensors(folder / "text.safetensors", "")
    assert stored["rows"].dtype == torch.float16


def test_repeated_rows_are_stored_once(whole, tmp_path):
    bank, _ = whole
    again = FeatureBank(
        **{**bank.__dict__, "generated": bank.generated[:, :1].expand(-1, ROUNDS, -1)}
    )
    again.save(tmp_path)
    assert read_tensors(tmp_path / "generated.safetensors", "")["rows"].shape[0] == 5
    assert equal(FeatureBank.load(tmp_path), again)


def test_a_finished_bank_is_not_built_again(whole, build, generator, monkeypatch):
    bank, folder = whole
    monkeypatch.setattr(type(generator), "__call__", lambda *a, **k: pytest.fail("drew again"))
    assert equal(build(out=folder), bank)


def test_equal_prompts_are_drawn_once(benchmark, build, generator, monkeypatch):
    monkeypatch.setattr(type(benchmark), "prompt", lambda self, q, r: f"house {q}")
    call, drawn = type(generator).__call__, []
    count = lambda self, prompts, **more: drawn.extend(prompts) or call(self, prompts, **more)
    monkeypatch.setattr(type(generator), "__call__", count)
    bank = build()
    assert sorted(drawn) == [f"house {q}" for q in range(5)]
    assert torch.equal(bank.generated[:, 0], bank.generated[:, 2])


class Killed(BaseException):
    """A kill at some moment."""


@pytest.mark.parametrize(
    ("method", "calls"), [("draw", 0), ("draw", 2), ("text", 0), ("images", 1), ("images", 3)]
)
def test_a_killed_build_goes_on_to_the_same_bank(
    whole, build, generator, encoder, tmp_path, monkeypatch, method, calls
):
    owner, name = {
        "draw": (type(generator), "__call__"),
        "text": (type(encoder), "encode_text"),
        "images": (type(encoder), "encode_images"),
    }[method]
    original, made = getattr(owner, name), []

    def die(self, *args, **more):
        if len(made) == calls:
            raise Killed
        made.append(1)
        return original(self, *args, **more)

    monkeypatch.setattr(owner, name, die)
    with pytest.raises(Killed):
        build(out=tmp_path)
    assert not (tmp_path / "bank.json").exists()
    monkeypatch.setattr(owner, name, original)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "parts").glob("*.safetensors")}
    drawn, call = [], type(generator).__call__
    count = lambda self, *args, **more: drawn.append(1) or call(self, *args, **more)
    monkeypatch.setattr(type(generator), "__call__", count)
    assert equal(build(out=tmp_path), whole[0])
    if method == "draw":
        parts_before = len(before) - 2  # one of texts, one of the corpus
        assert parts_before == calls and len(drawn) == 3 - calls


def test_parts_that_are_damaged_or_of_other_models_are_not_used(
    whole, build, generator, tmp_path, monkeypatch
):
    generator.guidance = 1.5
    build(out=tmp_path / "other")
    (tmp_path / "bank" / "parts").mkdir(parents=True)
    monkeypatch.setattr("pathlib.Path.unlink", lambda *a, **k: None)  # parts stay
    build(out=tmp_path / "bank")
    other = {p.name for p in (tmp_path / "bank" / "parts").iterdir()}
    generator.guidance = 3.0
    for path in (tmp_path / "bank" / "parts").iterdir():
        path.write_bytes(path.read_bytes()[:-20])
    assert equal(build(out=tmp_path / "bank"), whole[0])
    assert len({p.name for p in (tmp_path / "bank" / "parts").iterdir()} - other) == 3


def test_shares_make_the_same_bank(whole, build, tmp_path):
    assert build(out=tmp_path, share=(1, 2)) is None and not (tmp_path / "bank.json").exists()
    assert len(list((tmp_path / "parts").iterdir())) == 1  # of 3 batches of drawings
    assert equal(build(out=tmp_path), whole[0])


def test_a_bank_of_another_model_is_refused(whole, encoder):
    bank, _ = whole
    assert bank.check(encoder_hash=encoder.hash) is bank
    with pytest.raises(InputError, match="made by encoder .* not by 0123"):
        bank.check(encoder_hash="0123")
    with pytest.raises(InputError, match="made by generator"):
        bank.check(encoder_hash=encoder.hash, generator_hash="0123")


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
        ("corpus", lambda t: t[:, :-1], r"corpus.safetensors has shape \[30, 15\]"),
        ("corpus", lambda t: t * torch.nan, "corpus.safetensors holds NaN"),
        ("corpus", lambda t: t[:2], "target.safetensors points outside"),
        ("seeds", lambda t: t[:3], "seeds.safetensors has shape"),
        ("seeds", lambda t: t.float(), "seeds.safetensors holds torch.float32"),
        ("cut", lambda t: t[0], "cut.safetensors has shape"),
    ],
)
def test_wrong_tensors_are_refused(whole, tmp_path, name, change, message):
    folder = shutil.copytree(whole[1], tmp_path / "bank")
    path = folder / f"{name}.safetensors"
    exchange(path, {"values": change(read_tensors(path, "")["values"])})
    with pytest.raises(InputError, match=message):
        FeatureBank.load(folder)


def test_wrong_rows_are_refused(whole, tmp_path):
    folder = shutil.copytree(whole[1], tmp_path / "bank")
    path = folder / "prompt.safetensors"
    held = read_tensors(path, "")
    exchange(path, {**held, "rows": held["rows"][:1]})
    with pytest.raises(InputError, match="prompt.safetensors lacks rows"):
        FeatureBank.load(folder)


def test_models_that_give_nan_are_named(build, encoder, tmp_path, monkeypatch):
    bad = lambda self, texts, batch=256: torch.full((len(texts), self.dim), torch.nan)
    monkeypatch.setattr(type(encoder), "encode_text", bad)
    with pytest.raises(InputError, match="encode texts, part 0: features holds NaN"):
        build(out=tmp_path)


def test_rounds_out_of_range_are_refused(benchmark, encoder, generator):
    with pytest.raises(InputError, match="rounds is 12"):
        build_bank(benchmark, encoder, generator, rounds=12)


def arguments(stored, out):
    models = ["--encoder", str(stored / "encoder"), "--generator", str(stored / "generator")]
    few = ["--split", "validation", "--limit", "2", "--pictures", "9", "--rounds", "2"]
    return [*models, *few, "--out", str(out)]


def test_from_the_shell(stored, tmp_path, capsys):
    main(arguments(stored, tmp_path / "bank"))
    assert "2 dialogues, 2 rounds, 16 numbers" in capsys.readouterr().out
    assert FeatureBank.load(tmp_path / "bank").readings.shape == (2, 2, 18)
    with pytest.raises(SystemExit):
        main([*arguments(stored, tmp_path / "bank"), "--style", "klingon"])
    assert "no style 'klingon'" in capsys.readouterr().err


@pytest.mark.slow
def test_under_torchrun(stored, tmp_path):
    main(arguments(stored, tmp_path / "alone"))
    run = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "-m",
        "adafuse_lite.bank",
    ]
    subprocess.run([*run, *arguments(stored, tmp_path / "together")], check=True)
    assert equal(FeatureBank.load(tmp_path / "alone"), FeatureBank.load(tmp_path / "together"))


# ---------------------------------------------------------------- the bundled banks

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
