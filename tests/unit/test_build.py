"""Building a bank: the right features in the right place, resumable, in shares, from a shell."""

import os
import subprocess
import sys
import time

import pytest
import torch
from test_bank import equal

from adafuse_lite import FeatureBank, InputError, build_bank, load_generator, write_benchmark
from adafuse_lite.build import main, query_seed

ROUNDS = 3


@pytest.fixture
def generator(models):
    generator = load_generator(str(models / "diffusion"), device="cpu")
    generator.batch = 4
    return generator


@pytest.fixture
def build(five, clip, generator, probe):
    return lambda **more: build_bank(five, clip, generator, probe, rounds=ROUNDS, **more)


def test_fields_have_their_shapes(whole, five, clip, generator, probe):
    bank, _ = whole
    assert bank.text.shape == bank.prompt.shape == bank.generated.shape == (5, ROUNDS, clip.dim)
    assert bank.corpus.shape == (30, clip.dim) and bank.readings.shape == (5, ROUNDS, 18)
    assert bank.target.tolist() == five.targets
    assert bank.seeds[0] == query_seed(0, "visdial", five.dialogues[0].img)
    assert len(set(bank.seeds.tolist())) == 5
    assert bank.meta["encoder"] == clip.hash and bank.meta["generator"] == generator.hash
    assert bank.meta["probe"] == probe.hash and bank.meta["settings"]["steps"] == 3


def test_features_stand_where_they_belong(whole, five, clip, generator, probe):
    bank, _ = whole
    for q, r in ((0, 0), (3, 2), (4, 1)):
        text, prompt = five.text(q, r), five.prompt(q, r)
        drawn = generator([prompt], seeds=[bank.seeds[q]])
        for found, expected in (
            (bank.text[q, r], clip.encode_text([text])),
            (bank.prompt[q, r], clip.encode_text([prompt])),
            (bank.generated[q, r], clip.encode_images(drawn)),
        ):
            assert (found - expected[0]).abs().max() < 5e-3
        assert (bank.readings[q, r] == probe.read(drawn)[0]).float().mean() > 0.9
        assert bank.cut[q, r] == (clip.count_tokens([text])[0] > 77)
    target = five.picture(five.dialogues[2].img)
    assert (bank.corpus[bank.target[2]] - clip.encode_images([target])[0]).abs().max() < 5e-3


def test_a_finished_bank_is_not_built_again(whole, build, generator, monkeypatch):
    bank, folder = whole
    monkeypatch.setattr(type(generator), "__call__", lambda *a, **k: pytest.fail("drew again"))
    assert equal(build(out=folder), bank)


def test_equal_prompts_are_drawn_once(five, build, generator, monkeypatch):
    monkeypatch.setattr(type(five), "prompt", lambda self, q, r: f"house {q}")
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
    whole, build, generator, clip, tmp_path, monkeypatch, method, calls
):
    owner, name = {
        "draw": (type(generator), "__call__"),
        "text": (type(clip), "encode_text"),
        "images": (type(clip), "encode_images"),
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


def test_models_that_give_nan_are_named(build, clip, tmp_path, monkeypatch):
    bad = lambda self, texts, batch=256: torch.full((len(texts), self.dim), torch.nan)
    monkeypatch.setattr(type(clip), "encode_text", bad)
    with pytest.raises(InputError, match="encode texts, part 0: features holds NaN"):
        build(out=tmp_path)


def test_rounds_out_of_range_are_refused(five, clip, generator):
    with pytest.raises(InputError, match="rounds is 12"):
        build_bank(five, clip, generator, rounds=12)


def arguments(models, out):
    models = ["--encoder", str(models / "clip"), "--generator", str(models / "diffusion")]
    few = ["--split", "validation", "--limit", "2", "--pictures", "9", "--rounds", "2"]
    return [*models, *few, "--out", str(out)]


def test_from_the_shell(models, tmp_path, capsys):
    main(arguments(models, tmp_path / "bank"))
    assert "2 dialogues x 2 rounds, 9 pictures, 16 wide" in capsys.readouterr().out
    assert FeatureBank.load(tmp_path / "bank").readings.shape == (2, 2, 18)
    with pytest.raises(SystemExit):
        main([*arguments(models, tmp_path / "bank"), "--style", "klingon"])
    assert "no style 'klingon'" in capsys.readouterr().err


def test_a_limit_limits_the_corpus_as_well(models, tmp_path):
    few = ["--split", "validation", "--limit", "2", "--rounds", "1"]
    kinds = ["--encoder", str(models / "clip"), "--generator", str(models / "diffusion")]
    main([*kinds, *few, "--out", str(tmp_path)])
    bank = FeatureBank.load(tmp_path)
    assert len(bank.target) == 2 and len(bank.corpus) == 20  # ten pictures for each dialogue


@pytest.mark.slow
def test_under_torchrun(models, tmp_path):
    main(arguments(models, tmp_path / "alone"))
    run = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "-m",
        "adafuse_lite.bank",
    ]
    subprocess.run([*run, *arguments(models, tmp_path / "together")], check=True)
    assert equal(FeatureBank.load(tmp_path / "alone"), FeatureBank.load(tmp_path / "together"))


def test_shares_by_hand_give_the_same_bank(models, tmp_path, monkeypatch):
    from adafuse_lite import build
    from adafuse_lite.build import main

    monkeypatch.setattr(build, "TEXT_PART", 3)  # so that there is more than one part to share
    monkeypatch.setattr(build, "PICTURE_PART", 3)
    own = [
        "--encoder",
        str(models / "clip"),
        "--generator",
        str(models / "diffusion"),
        "--split",
        "validation",
        "--limit",
        "3",
        "--pictures",
        "8",
        "--rounds",
        "2",
        "--out",
    ]
    main([*own, str(tmp_path / "alone")])
    main([*own, str(tmp_path / "shared"), "--share", "0", "2"])
    assert not (tmp_path / "shared" / "bank.json").exists()
    main([*own, str(tmp_path / "shared"), "--share", "1", "2"])
    main([*own, str(tmp_path / "shared")])
    one, two = (FeatureBank.load(tmp_path / name) for name in ("alone", "shared"))
    assert one.meta == two.meta and torch.equal(one.generated, two.generated)


def test_two_processes_and_a_killed_one_give_the_same_bank(models, few, tmp_path):
    write_benchmark(few, tmp_path / "world")
    own = [
        "--benchmark",
        str(tmp_path / "world"),
        "--encoder",
        str(models / "clip"),
        "--generator",
        str(models / "diffusion"),
        "--rounds",
        "4",
    ]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    alone = [sys.executable, "-m", "adafuse_lite.bank", *own, "--out", str(tmp_path / "alone")]
    assert (
        "cut at 77 tokens"
        in subprocess.run(alone, env=env, check=True, capture_output=True, text=True).stdout
    )
    run = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "adafuse_lite.bank",
        *own,
    ]
    killed = subprocess.Popen(
        [*run, "--out", str(tmp_path / "killed")],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    start = time.time()
    while (
        not list(tmp_path.glob("killed/parts/*.safetensors"))
        and killed.poll() is None
        and time.time() - start < 90
    ):
        time.sleep(0.05)
    killed.kill()
    subprocess.run(["pkill", "-9", "-f", str(tmp_path / "killed")], check=False)
    killed.wait()
    subprocess.run(
        [*run, "--out", str(tmp_path / "killed")], env=env, check=True, capture_output=True
    )
    one, two = (FeatureBank.load(tmp_path / name) for name in ("alone", "killed"))
    assert one.meta == two.meta
    for name in ("text", "prompt", "generated", "corpus", "target", "cut"):
        torch.testing.assert_close(getattr(one, name), getattr(two, name), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--limit", "0"], "no whole number of 1 or more"),
        (["--limit", "-1"], "no whole number of 1 or more"),
        (["--share", "2", "2"], "no share 2 of 2"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(tmp_path, capsys, wrong, message):
    with pytest.raises(SystemExit) as end:
        main(["--out", str(tmp_path), *wrong])
    assert end.value.code == 2 and message in capsys.readouterr().err
