"""What comes from others: models, files, pictures and texts that mean harm."""

import ast
import io
import json
import os
import socket
import struct
import zlib
from pathlib import Path

import pytest
import tiny_models
import torch
from hard_kit import REFUSED, FakeEncoder, FakeGenerator, attempt, fake_benchmark, weights
from PIL import Image

import adafuse_lite
from adafuse_lite import (
    AdaFuSE,
    FeatureBank,
    PictureIndex,
    build_bank,
    load_benchmark,
    load_encoder,
    load_generator,
    photos,
    top,
)
from adafuse_lite.files import open_picture

MODULES = sorted(Path(adafuse_lite.__file__).parent.rglob("*.py"))


# --- pickles and foreign code ---------------------------------------------------------------------
def called(tree):
    """The names that are called or imported in a module, with their arguments' names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((name.name, {}) for name in node.names)
            yield getattr(node, "module", None) or "", {}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.name)
def test_no_module_runs_what_it_reads(path):
    """tried: every call and import of the package;
    promised: no pickle, torch.load, eval, exec, shell or remote code."""
    for name, arguments in called(ast.parse(path.read_text(encoding="utf-8"))):
        last = name.rpartition(".")[2]
        assert last not in {
            "pickle",
            "joblib",
            "dill",
            "cloudpickle",
            "marshal",
            "shelve",
            "exec",
            "system",
            "popen",
            "unsafe_load",
        }, name
        assert name not in {
            "eval",
            "compile",
            "torch.load",
            "np.load",
            "numpy.load",
            "yaml.load",
            "__import__",
        }, name
        assert (
            arguments.get("trust_remote_code", "False") == "False"
            and arguments.get("shell", "False") == "False"
        )
        assert (
            arguments.get("weights_only", "True") == "True"
            and arguments.get("use_safetensors", "True") == "True"
        )


@pytest.fixture
def pickle_bytes(tmp_path):
    """A pickle that makes a file when it is loaded,
    written by hand (protocol 0) so that no test needs the module."""
    mark = tmp_path / "ran"
    return mark, f"cos\nsystem\n(S'touch {mark}'\ntR.".encode()


def write(kind, folder):
    torch.manual_seed(0)
    if kind == "clip":
        tiny_models.write_encoder(folder)
    elif kind == "blip":
        tiny_models.write_blip(folder)
    elif kind == "diffusion":
        tiny_models.write_generator(folder)
    elif kind == "head":
        AdaFuSE(16, 8, 16).save_pretrained(folder)
    elif kind == "bank":
        build_bank(fake_benchmark(), FakeEncoder(), FakeGenerator(), out=folder)
    else:
        PictureIndex(["a"], torch.zeros(1, 16), {}).save(folder)


LOADERS = {
    "clip": lambda f: load_encoder(str(f), device="cpu"),
    "blip": lambda f: load_encoder(str(f), device="cpu"),
    "diffusion": lambda f: load_generator(str(f), device="cpu"),
    "head": AdaFuSE.from_pretrained,
    "bank": FeatureBank.load,
    "index": PictureIndex.load,
}


@pytest.mark.parametrize("kind", LOADERS)
def test_pickles_in_place_of_weights(kind, tmp_path, pickle_bytes):
    """tried: pickles that run a command, under all usual names, instead of each safetensors file
    and beside it;
    promised: refused (or ignored, where the safetensors are there), never run."""
    mark, evil = pickle_bytes
    folder = tmp_path / kind
    write(kind, folder)
    stored = sorted(folder.rglob("*.safetensors"))
    assert stored
    for place in {p.parent for p in stored}:
        for name in (
            "pytorch_model.bin",
            "open_clip_pytorch_model.bin",
            "diffusion_pytorch_model.bin",
            "model.pt",
            "weights.pth",
            "last.ckpt",
        ):
            (place / name).write_bytes(evil)
    assert attempt(lambda: LOADERS[kind](folder)) is not REFUSED
    for path in stored:
        data = path.read_bytes()
        path.unlink()
        assert attempt(lambda: LOADERS[kind](folder)) is REFUSED, path
        path.write_bytes(evil)
        assert attempt(lambda: LOADERS[kind](folder)) is REFUSED, path
        path.write_bytes(data)
    assert not mark.exists()


def bring_code(folder):
    """Put Python files into a model's folders that make a file when they are run."""
    mark = folder.parent / "ran"
    for place in {folder, *(p.parent for p in folder.rglob("*.json"))}:
        for name in ("evil.py", "modeling_evil.py", "tokenization_evil.py", "pipeline.py"):
            (place / name).write_text(f"open({str(mark)!r}, 'w')\nclass Evil:\n    pass\n")
    return mark


@pytest.fixture
def nobody_asks(monkeypatch):
    """Libraries ask at the keyboard whether code may run; that fails the test at once."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))


AUTO_MAP = {x: "evil.Evil" for x in ("AutoModel", "AutoConfig", "AutoImageProcessor")}
AUTO_MAP["AutoTokenizer"] = ["evil.Evil", "evil.Evil"]


@pytest.mark.parametrize("kind", ["clip", "blip", "diffusion", "head"])
@pytest.mark.usefixtures("nobody_asks")
def test_code_that_a_model_brings_along(kind, tmp_path):
    """tried: Python files in model folders, named in auto_map and asked for by every setting there
    is;
    promised: refused, never run, nobody is asked."""
    folder = tmp_path / kind
    write(kind, folder)
    mark = bring_code(folder)
    more = {"auto_map": AUTO_MAP, "trust_remote_code": True, "custom_pipeline": "evil"}
    for path in folder.rglob("*.json"):
        held = json.loads(path.read_text())
        if isinstance(held, dict) and path.name not in ("vocab.json", "tokenizer.json"):
            path.write_text(json.dumps(held | more))
    assert attempt(lambda: LOADERS[kind](folder)) is REFUSED
    assert not mark.exists()


@pytest.mark.parametrize(
    ("kind", "file", "way", "setting"),
    [
        (
            "clip",
            "open_clip_config.json",
            "model_cfg/text_cfg/tokenizer_kwargs",
            {"trust_remote_code": True},
        ),
        ("clip", "open_clip_config.json", "model_cfg/text_cfg", {"hf_model_name": "{folder}"}),
        ("clip", "open_clip_config.json", "model_cfg/text_cfg", {"hf_model_name": "some/body"}),
        (
            "clip",
            "open_clip_config.json",
            "model_cfg/vision_cfg",
            {"timm_model_name": "hf-hub:a/b"},
        ),
        ("clip", "tokenizer_config.json", "", {"auto_map": AUTO_MAP}),
        ("blip", "config.json", "", {"auto_map": AUTO_MAP}),
        ("blip", "preprocessor_config.json", "", {"auto_map": AUTO_MAP}),
        ("diffusion", "model_index.json", "", {"_class_name": ["evil", "Evil"]}),
        ("diffusion", "model_index.json", "", {"unet": ["evil", "Evil"]}),
        ("diffusion", "model_index.json", "", {"tokenizer": ["transformers", "AutoTokenizer"]}),
        ("diffusion", "text_encoder/config.json", "", {"auto_map": AUTO_MAP}),
    ],
)
@pytest.mark.usefixtures("nobody_asks")
def test_code_that_one_setting_asks_for(kind, file, way, setting, tmp_path, monkeypatch):
    """tried: each way alone of naming code, or a model that lies elsewhere;
    promised: refused, never run, nobody is asked, no connection is tried."""
    folder, tried = tmp_path / kind, []
    write(kind, folder)
    mark = bring_code(folder)
    if "tokenizer" in setting:
        path = folder / "tokenizer" / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": AUTO_MAP}))
    held = here = json.loads((folder / file).read_text())
    for step in filter(None, way.split("/")):
        here = here.setdefault(step, {})
    here.update({k: str(folder) if v == "{folder}" else v for k, v in setting.items()})
    (folder / file).write_text(json.dumps(held))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **_: tried.append(args))
    assert attempt(lambda: LOADERS[kind](folder)) is REFUSED
    assert not mark.exists() and not tried


# --- paths and pictures ---------------------------------------------------------------------------
def chatir(folder, name):
    (folder / "corpus.json").write_text(json.dumps([name]))
    (folder / "visdial.json").write_text(
        json.dumps([{"img": name, "dialog": ["a cat", *["is it red? no"] * 10]}])
    )
    return load_benchmark(folder)


@pytest.mark.parametrize(
    "name",
    [
        "../secret.png",
        "a/../../secret.png",
        "{root}/secret.png",
        "link.png",
        "linked/secret.png",
        "a\x00b.png",
        "..",
        ".",
        "",
        "\ud800.png",
        "x" * 300 + ".png",
    ],
)
def test_names_that_lead_out_of_the_folder(tmp_path, name):
    """tried: parent folders, absolute paths, symbolic links, zero bytes, names too long;
    promised: a refusal, no picture."""
    inside = tmp_path / "inside"
    (inside / "a").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    os.symlink(tmp_path / "secret.png", inside / "link.png")
    os.symlink(tmp_path, inside / "linked")
    name = name.replace("{root}", str(tmp_path))

    def load():
        benchmark = chatir(inside, name)
        return benchmark.picture(benchmark.corpus[0])

    assert attempt(load) is REFUSED


def png(width, height):
    """The beginning of a PNG that claims to be of this size."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b"\x00" * 1000))
        + chunk(b"IEND", b"")
    )


def whole(**options):
    held = io.BytesIO()
    Image.effect_noise((64, 64), 90).convert("RGB").save(held, **options)
    return held.getvalue()


BAD = {
    "giant": png(50_000, 50_000),
    "huge": png(2**31 - 1, 2**31 - 1),
    "wide": png(400_000_000, 1),
    "no data": png(64, 64),
    "cut png": whole(format="PNG")[:300],
    "cut jpeg": whole(format="JPEG")[:500],
    "cut webp": whole(format="WEBP")[:200],
    "text": b"no picture",
    "empty": b"",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
}


@pytest.mark.parametrize("kind", BAD)
def test_pictures_that_are_none(tmp_path, kind):
    """tried: pictures of 2,500 megapixels and more, cut short, of no kind;
    promised: refused or left out, in little memory."""
    (tmp_path / "a.png").write_bytes(BAD[kind])
    (tmp_path / "b.png").write_bytes(whole(format="PNG"))
    assert attempt(lambda: open_picture(tmp_path / "a.png")) is REFUSED
    found = photos(tmp_path, progress=False)
    assert (found.corpus, found.skipped) == (["b.png"], ("a.png",))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_pictures_of_every_mode(tmp_path, mode):
    """tried: one-bit, grey, palette, transparent, CMYK, 16-bit and float pictures;
    promised: RGB."""
    Image.new(mode, (9, 7)).save(tmp_path / "a.tif")
    found = open_picture(tmp_path / "a.tif")
    assert (found.mode, found.size) == ("RGB", (9, 7))


# --- the network ----------------------------------------------------------------------------------
def test_nothing_of_ones_own_is_looked_up(tmp_path, monkeypatch):
    """tried: bundled models, benchmark, bank, search, local folders, with every connection an
    error;
    promised: none is tried."""
    tried = []

    def refuse(*args, **kwargs):
        tried.append(args)
        raise OSError("no network")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    encoder, head = load_encoder(device="cpu"), AdaFuSE.from_pretrained("postcards")
    found = load_generator(device="cpu")(["a red barn"], seeds=[1])
    features = encoder.encode_images(found)
    top(head(encoder.encode_text(["a red barn"]), features).query, features, 1)
    load_benchmark("postcards").picture(load_benchmark("postcards").corpus[0])
    for kind, load in LOADERS.items():
        write(kind, tmp_path / kind)
        assert attempt(lambda: load(tmp_path / kind)) is not REFUSED  # noqa: B023
        assert attempt(lambda: load(tmp_path / f"no {kind}")) is REFUSED  # noqa: B023
    assert weights(AdaFuSE.from_pretrained(tmp_path / "head")) and not tried


# --- texts ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onmouseover='alert(1)"],
)
def test_html_of_a_picture_is_shown_not_run(text):
    """tried: HTML as a picture's name in the game (typed texts: tests/unit/test_demo.py);
    promised: escaped, nothing of it a tag."""
    from adafuse_lite.game.page import PAGE, data_uri

    made = PAGE.img(data_uri(Image.new("RGB", (4, 4))), text, 8)
    assert made.count("<") == made.count(">") == 1 and text not in made
