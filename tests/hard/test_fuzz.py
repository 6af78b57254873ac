"""Damaged JSON and safetensors files: read exactly as they are written,
or refused in one sentence; nothing in between."""

import json
import random
import shutil
import struct
from pathlib import Path

import pytest
import tiny_models
import torch
from hard_kit import (
    REFUSED,
    FakeEncoder,
    FakeGenerator,
    attempt,
    broken,
    changed,
    content,
    data_start,
    fake_benchmark,
    flipped,
    mutations,
    weights,
)

from adafuse_lite import (
    AdaFuSE,
    FeatureBank,
    PictureIndex,
    build_bank,
    fit,
    load_benchmark,
    load_encoder,
    load_generator,
)
from adafuse_lite.files import read_all, write_tensors
from adafuse_lite.postcards.probe import Probe, load_probe
from adafuse_lite.sources import read_captions

FEW_AND_MANY = [pytest.param(1, id="few"), pytest.param(40, id="many", marks=pytest.mark.slow)]


def run(path, value, count, seed, load, check, least):
    """Write each mutation, load it, hold what loaded against the file; at least a share ``least``
    must be refused, some not."""
    refused, path = 0, Path(path)
    for i, data in enumerate(mutations(value, count, seed)):
        path.write_bytes(data)
        try:
            found = attempt(load)
            if found is REFUSED:
                refused += 1
            else:
                check(found, data)
        except BaseException as error:
            error.add_note(f"mutation {i} of seed {seed}: {data[:1500]!r}")
            raise
    assert least * count <= refused < count, f"{refused} of {count} refused"


# --- benchmarks -----------------------------------------------------------------------------------
TALKS = [
    {"img": f"{i}.jpg", "dialog": [f"a cat {i}", *[f"is it red {r}? no" for r in range(10)]]}
    for i in range(4)
]
CORPUS = [f"{i}.jpg" for i in range(6)]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "dialogs.json").write_text(json.dumps(TALKS))
    (tmp_path / "corpus.json").write_text(json.dumps(CORPUS))
    return tmp_path


def used(benchmark):
    """Do with a benchmark what a build does before any model runs."""
    texts = [
        [benchmark.text(q, r) for r in range(benchmark.rounds)]
        for q in range(len(benchmark.dialogues))
    ]
    prompts = [
        [benchmark.prompt(q, r) for r in range(benchmark.rounds)]
        for q in range(len(benchmark.dialogues))
    ]
    assert len(benchmark.targets) == len(texts) and benchmark.report["entries"] >= len(texts)
    return texts, prompts


@pytest.mark.parametrize("times", FEW_AND_MANY)
def test_dialogue_files(folder, times):
    """tried: mutations of a dialogue file;
    promised: every dialogue of the file, word for word, or a refusal."""

    def check(benchmark, data):
        wanted = json.loads(data)
        assert [(d.img, list(d.entries)) for d in benchmark.dialogues] == [
            (x["img"], x["dialog"]) for x in wanted
        ]
        texts, _ = used(benchmark)
        assert texts[-1][10] == ", ".join(wanted[-1]["dialog"])

    run(
        folder / "dialogs.json",
        TALKS,
        150 * times,
        times,
        lambda: load_benchmark(folder, "dialogs"),
        check,
        0.5,
    )


@pytest.mark.parametrize("times", FEW_AND_MANY)
def test_corpus_lists(folder, times):
    """tried: mutations of a corpus list;
    promised: every name of the file in its order, or a refusal."""

    def check(benchmark, data):
        assert benchmark.corpus == json.loads(data)
        used(benchmark)
        for name in benchmark.corpus:
            assert (
                attempt(lambda name=name: benchmark.picture(name)) is REFUSED
            )  # there are no pictures here

    run(
        folder / "corpus.json",
        CORPUS,
        150 * times,
        times,
        lambda: load_benchmark(folder, "dialogs"),
        check,
        0.5,
    )


@pytest.mark.parametrize("times", FEW_AND_MANY)
@pytest.mark.parametrize("by_name", [False, True])
def test_prompt_files(folder, times, by_name):
    """tried: mutations of a file of ready-made prompts;
    promised: the file's prompts for every dialogue and round, or a refusal."""
    prompts = [[f"prompt {q} {r}" for r in range(11)] for q in range(4)]
    value = {d["img"]: p for d, p in zip(TALKS, prompts)} if by_name else prompts

    def check(benchmark, data):
        wanted = json.loads(data)
        rows = [wanted[d["img"]] for d in TALKS] if isinstance(wanted, dict) else wanted
        assert used(benchmark)[1] == rows

    (folder / "p").mkdir()
    path = folder / "p" / "prompts.json"
    run(
        path,
        value,
        80 * times,
        times,
        lambda: load_benchmark(folder, "dialogs", prompts=path),
        check,
        0.4,
    )


def test_an_object_with_a_key_twice_is_refused_or_the_last_counts(folder):
    """tried: a dialogue with two "img"; promised: JSON's own rule (the last one), not a mixture."""
    text = json.dumps(TALKS).replace('"img": "0.jpg"', '"img": "5.jpg", "img": "0.jpg"', 1)
    (folder / "dialogs.json").write_text(text)
    assert load_benchmark(folder, "dialogs").dialogues[0].img == "0.jpg"


VISDIAL = {
    "version": "1.0",
    "split": "train",
    "data": {
        "questions": [f"question {i}" for i in range(5)],
        "answers": [f"answer {i}" for i in range(5)],
        "dialogs": [
            {
                "image_id": 40 + i,
                "caption": f"a barn {i}",
                "dialog": [{"question": (i + r) % 5, "answer": r % 5} for r in range(3)],
            }
            for i in range(3)
        ],
    },
}


@pytest.mark.parametrize("times", FEW_AND_MANY)
def test_visdials_training_file(tmp_path, times):
    """tried: mutations of VisDial's file;
    promised: all its dialogues with the questions and answers meant, or a refusal."""

    def check(benchmark, data):
        held = json.loads(data)["data"]
        assert len(benchmark.dialogues) == len(held["dialogs"])
        for found, talk in zip(benchmark.dialogues, held["dialogs"]):
            turns = [
                (held["questions"][t["question"]], held["answers"][t["answer"]])
                for t in talk["dialog"]
            ]
            assert all(isinstance(x, str) for turn in turns for x in turn) and isinstance(
                talk["caption"], str
            )
            assert list(found.entries) == [talk["caption"], *[f"{q}? {a}" for q, a in turns]]
            assert found.img.endswith(f"{talk['image_id']:012}.jpg")
            assert all(
                type(n) is int and n >= 0
                for t in talk["dialog"]
                for n in (t["question"], t["answer"])
            )
        used(benchmark)

    path = tmp_path / "visdial.json"
    run(path, VISDIAL, 150 * times, times, lambda: load_benchmark(path), check, 0.3)


@pytest.mark.parametrize("times", FEW_AND_MANY)
def test_caption_files(tmp_path, times):
    """tried: mutations of a file of captions; promised: the file's own captions or a refusal."""
    path, value = tmp_path / "captions.json", {name: f"a cat {name}" for name in CORPUS}

    def check(found, data):
        assert json.dumps(found) == json.dumps(json.loads(data))

    run(path, value, 80 * times, times, lambda: read_captions(path), check, 0.1)


# --- what is stored -------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A bank, an index, a head, a probe and the tiny models, as they lie on a disk."""
    folder = tmp_path_factory.mktemp("stored")
    build_bank(fake_benchmark(), FakeEncoder(), FakeGenerator(), out=folder / "bank")
    torch.manual_seed(0)
    AdaFuSE(16, 8, 16, zero_init=False, encoder_hash="abc").save_pretrained(folder / "head")
    PictureIndex(list("abcd"), torch.randn(4, 16).half().float(), {"encoder": "abc"}).save(
        folder / "index"
    )
    Probe().save(folder / "probe")
    tiny_models.write_encoder(folder / "clip")
    tiny_models.write_generator(folder / "diffusion")
    tiny_models.write_blip(folder / "blip")
    return folder


@pytest.fixture
def copy(stored, tmp_path):
    return lambda name: Path(shutil.copytree(stored / name, tmp_path / name))


@pytest.mark.parametrize("times", FEW_AND_MANY)
def test_bank_settings(copy, times):
    """tried: mutations of bank.json; promised: the bank's own numbers or a refusal."""
    folder = copy("bank")
    path, whole = folder / "bank.json", FeatureBank.load(folder)

    def check(found, data):
        found.meta = whole.meta
        assert content(found) == content(whole)

    run(
        path,
        json.loads(path.read_text()),
        100 * times,
        times,
        lambda: FeatureBank.load(folder),
        check,
        0.4,
    )


@pytest.mark.parametrize("times", FEW_AND_MANY)
def test_index_settings(copy, times):
    """tried: mutations of an index's names;
    promised: the names of the file, one for each row, or a refusal."""
    folder = copy("index")
    path, whole = folder / "index.json", PictureIndex.load(folder)

    def check(found, data):
        assert found.names == json.loads(data)["names"] and len(found.names) == 4
        assert all(isinstance(n, str) for n in found.names) and isinstance(found.meta, dict)
        assert torch.equal(found.features, whole.features)

    run(
        path,
        json.loads(path.read_text()),
        100 * times,
        times,
        lambda: PictureIndex.load(folder),
        check,
        0.4,
    )


@pytest.mark.parametrize("times", FEW_AND_MANY)
def test_head_settings(copy, times):
    """tried: mutations of a head's config, sizes of 10^30 among them;
    promised: the head's own queries or a refusal."""
    folder = copy("head")
    path, pair = (
        folder / "config.json",
        [torch.nn.functional.normalize(torch.randn(3, 16), dim=1) for _ in range(2)],
    )
    whole = AdaFuSE.from_pretrained(folder)(*pair).query

    def check(found, data):
        assert torch.equal(found(*pair).query, whole) and not found.training

    run(
        path,
        json.loads(path.read_text()),
        60 * times,
        times,
        lambda: AdaFuSE.from_pretrained(folder),
        check,
        0.4,
    )


def test_a_head_of_a_million_experts_takes_no_memory(copy):
    """tried: sizes up to what a config may say; promised: refused before memory is taken."""
    folder = copy("head")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for change in (
        {"feature_dim": 65_536, "projection_dim": 65_536},
        {"num_experts": 10**9},
        {"hidden_dim": 65_536, "projection_dim": 65_536},
    ):
        path.write_text(json.dumps(config | change))
        assert attempt(lambda: AdaFuSE.from_pretrained(folder)) is REFUSED


@pytest.mark.parametrize("times", FEW_AND_MANY)
def test_probe_settings(copy, times):
    """tried: mutations of the probe's card; promised: the probe's own weights or a refusal."""
    folder = copy("probe")
    path, whole = folder / "probe.json", weights(load_probe(folder))

    def check(found, data):
        assert weights(found) == whole

    value = json.loads(path.read_text())
    run(path, {**value, "accuracy": 0.9}, 25 * times, times, lambda: load_probe(folder), check, 0.5)


@pytest.mark.parametrize("times", [1, pytest.param(12, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["open_clip_config.json", "tokenizer_config.json"])
def test_encoder_settings(copy, times, name):
    """tried: mutations of an encoder's JSON;
    promised: a refusal, another hash, or the very features of before."""
    folder = copy("clip")
    path, load = folder / name, lambda: load_encoder(str(folder), device="cpu")
    whole, texts = load(), ["a red barn", "the tree is on the left"]
    wanted = whole.encode_text(texts)

    def check(found, data):
        assert found.hash != whole.hash or torch.equal(found.encode_text(texts), wanted)

    value = json.loads(path.read_text())
    run(path, value, 16 * times, times, load, check, 0.05)


@pytest.mark.parametrize("times", [1, pytest.param(12, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_blip_settings(copy, times, name):
    """tried: mutations of BLIP's JSON; promised: a model that encodes, or a refusal."""
    folder = copy("blip")
    path = folder / name

    def check(found, data):
        assert found.encode_text(["a red barn"]).isfinite().all()

    run(
        path,
        json.loads(path.read_text()),
        10 * times,
        times,
        lambda: load_encoder(str(folder), device="cpu"),
        check,
        0.05,
    )


@pytest.mark.parametrize("times", [1, pytest.param(12, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["model_index.json", "adafuse_lite.json"])
def test_generator_settings(copy, times, name):
    """tried: mutations of a generator's JSON;
    promised: a refusal, or steps and guidance as the file says."""
    folder = copy("diffusion")
    path = folder / name

    def check(found, data):
        if name == "adafuse_lite.json":
            held = json.loads(data)
            assert (found.steps, found.guidance) == (held["steps"], held["guidance"])
        else:
            assert (found.steps, found.guidance) == (3, 3.0)

    value = json.loads(path.read_text())
    run(
        path,
        value,
        12 * times,
        times,
        lambda: load_generator(str(folder), device="cpu"),
        check,
        0.2,
    )


# --- safetensors ----------------------------------------------------------------------------------
TENSORS = {
    "rows": torch.randn(5, 4).half(),
    "index": torch.arange(6).int().reshape(2, 3),
    "cut": torch.tensor([True, False]),
    "step": torch.tensor(3.0),
    "none": torch.zeros(0, 3),
}


def with_header(data, header):
    """A safetensors file with another header, given as bytes."""
    return struct.pack("<Q", len(header)) + header + data[data_start(data) :]


def headers(data, count, seed):
    """Files with a damaged header: other JSON, damaged bytes, a wrong length."""
    rng, start = random.Random(seed), data_start(data)
    for i in range(count):
        if i % 3 == 0:
            header = json.dumps(changed(json.loads(data[8:start]), rng)).encode()
            yield with_header(data, header + b" " * (-len(header) % 8))
        elif i % 3 == 1:
            yield with_header(data, broken(data[8:start], rng))
        else:
            yield broken(data[:start], rng) + data[start:]


def same(found, wanted):
    return found.keys() == wanted.keys() and all(
        found[k].dtype == x.dtype and found[k].shape == x.shape and torch.equal(found[k], x)
        for k, x in wanted.items()
    )


@pytest.mark.parametrize("times", FEW_AND_MANY)
def test_headers_of_safetensors(tmp_path, times):
    """tried: damaged headers of a file with a checksum;
    promised: exactly what was stored, or a refusal."""
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS, {"about": "é", "history": "[1, 2]"})
    data, refused, count = path.read_bytes(), 0, 150 * times
    for damaged in headers(data, count, times):
        path.write_bytes(damaged)
        found = attempt(lambda: read_all(path, "store it again"))
        refused += found is REFUSED
        if found is not REFUSED:
            assert same(found[0], TENSORS), damaged[:600]
            # without its checksum, or with the whole block of remarks gone,
            # a file is one like any other's
            assert (
                found[1] == {"about": "é", "history": "[1, 2]"} or b'"checksum"' not in damaged
            ), damaged[:600]
    assert refused > 0.7 * count


def resumable(folder):
    """A checkpoint's path, and a short training that goes on from it."""
    from toy_bank import toy_bank

    bank, path = toy_bank(40), folder / "c.safetensors"
    options = {"epochs": 2, "batch_size": 16, "device": "cpu", "progress": False}
    torch.manual_seed(0)
    return path, lambda: fit(AdaFuSE(12, 8, 16), bank, bank, checkpoint=path, **options)


@pytest.mark.parametrize("times", FEW_AND_MANY)
def test_bits_of_a_checkpoint(tmp_path, times):
    """tried: one bit of a training's checkpoint flipped, or its header damaged;
    promised: refused, or the training as it was."""
    path, go = resumable(tmp_path)
    wanted, data, rng = go(), path.read_bytes(), random.Random(times)
    files = [*headers(data, 15 * times, times), *(flipped(data, rng) for _ in range(15 * times))]
    refused = 0
    for damaged in files:
        path.write_bytes(damaged)
        found = attempt(go)
        refused += found is REFUSED
        assert found is REFUSED or found == wanted
    assert refused > 0.7 * len(files)


def test_a_forged_checkpoint_is_refused(tmp_path):
    """tried: checkpoints that are whole files with other things in them;
    promised: refused in one sentence."""
    path, go = resumable(tmp_path)
    go()
    tensors, metadata = read_all(path, "")
    less = lambda k: {n: x for n, x in tensors.items() if n != k}
    name = next(n for n in tensors if n.startswith("model."))
    for forged in (
        (tensors, {}),
        ({}, metadata),
        (less(name), metadata),
        ({**tensors, name: torch.ones(1)}, metadata),
        (tensors, {**metadata, "history": "[]"}),
        (tensors, {**metadata, "history": '{"best": 1}'}),
        (tensors, {**metadata, "settings": "null"}),
        (tensors, {**metadata, "history": "[" * 50_000}),
        ({n: x for n, x in tensors.items() if not n.startswith("best.")}, metadata),
    ):
        write_tensors(path, *forged)
        assert attempt(go) is REFUSED
