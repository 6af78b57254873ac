"""Encoders: open_clip models from local directories, and what is refused."""

import json
import random
import shutil
import socket
from pathlib import Path

import huggingface_hub
import numpy as np
import open_clip
import pytest
import tiny_models
import torch
from PIL import Image

from adafuse_lite import InputError, load_encoder
from adafuse_lite.encoders import CONFIG, WEIGHTS
from adafuse_lite.postcards import captions, pretrain, render, world

SCENES = world.scenes("models", 12, 5)
rng = random.Random(0)
TEXTS = [captions.caption(s, rng)[0] for s in SCENES]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    return folder, tiny_models.write_encoder(folder)


@pytest.fixture(scope="module")
def encoder(stored):
    return load_encoder(str(stored[0]), device="cpu")


def test_open_clip_itself_loads_what_is_stored(stored, encoder):
    source = f"local-dir:{stored[0]}"
    model, _, preprocess = open_clip.create_model_and_transforms(source)
    tokens = open_clip.get_tokenizer(source)(TEXTS)
    found = model.eval().encode_text(tokens, normalize=True)
    assert torch.allclose(found, encoder.encode_text(TEXTS), atol=1e-6)
    assert tokens.shape == (12, 77) and (tokens.argmax(1) == tokens.ne(tokens.max()).sum(1)).all()


def test_features_are_those_of_the_trained_model(stored, encoder):
    """Stored in float16 and read with 77 tokens, they agree with those of training."""
    words = tiny_models.tokenizer(str(stored[0]))
    tokens = words(TEXTS, padding="longest", return_tensors="pt").input_ids
    x = pretrain.pictures(SCENES).float() / 127.5 - 1
    with torch.no_grad():
        text = pretrain.encode_short(stored[1], tokens)
        image = stored[1].encode_image(x, normalize=True)
    assert (encoder.encode_text(TEXTS) - text).abs().max() < 1e-2
    assert (encoder.encode_images([render.draw(s) for s in SCENES]) - image).abs().max() < 1e-2


def test_preprocessing_leaves_postcards_as_they_are(encoder):
    for scene in SCENES:
        expected = torch.from_numpy(render.pixels(scene)).permute(2, 0, 1) / 127.5 - 1
        assert torch.allclose(encoder.preprocess(render.draw(scene)), expected, atol=1e-6)


def test_shapes_lengths_and_batches(encoder):
    text = encoder.encode_text(TEXTS, batch=5)
    images = [render.draw(s) for s in SCENES] + [Image.new("L", (100, 70), 90)]
    image = encoder.encode_images(images, batch=5)
    assert text.shape == (12, encoder.dim) and image.shape == (13, encoder.dim)
    for found in (text, image):
        assert found.dtype == torch.float32 and torch.allclose(
            found.norm(dim=1), torch.ones(len(found))
        )
    assert torch.allclose(text, encoder.encode_text(TEXTS), atol=1e-5)
    assert encoder.encode_text([]).shape == (0, encoder.dim)
    assert encoder.encode_images([]).shape == (0, encoder.dim)


def test_cut_text_is_counted(encoder):
    assert encoder.limit == 77
    long = ", ".join(TEXTS)
    short, longer = encoder.count_tokens(["a house", long])
    assert short == (encoder.tokenizer(["a house"]) != encoder.tokenizer([""])).sum() + 2
    assert longer > 77
    more = encoder.encode_text([long, long + " with a red roof"])
    assert torch.equal(more[0], more[1])


def test_hash_is_of_the_content(stored, encoder, tmp_path):
    copy = shutil.copytree(stored[0], tmp_path / "copy")
    assert load_encoder(str(copy)).hash == encoder.hash and len(encoder.hash) == 16
    text = (copy / CONFIG).read_bytes()
    (copy / CONFIG).write_bytes(text.replace(b"\n", b"\r\n"))
    assert load_encoder(str(copy)).hash == encoder.hash
    config = json.loads(text)
    config["preprocess_cfg"]["mean"] = [0.4] * 3
    (copy / CONFIG).write_text(json.dumps(config))
    assert load_encoder(str(copy)).hash != encoder.hash


def test_bad_texts_and_pictures_are_refused(encoder):
    with pytest.raises(InputError, match="Text 1 is empty"):
        encoder.encode_text(["a house", " "])
    with pytest.raises(InputError, match="Text 0 is a int"):
        encoder.encode_text([3])
    with pytest.raises(InputError, match="put it in brackets"):
        encoder.encode_text("a house")
    with pytest.raises(InputError, match="Picture 0 is a ndarray"):
        encoder.encode_images([np.zeros((64, 64, 3), np.uint8)])


def test_damaged_directories_are_refused(stored, tmp_path):
    copy = lambda name: shutil.copytree(stored[0], tmp_path / name)
    folder = copy("truncated")
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="truncated"):
        load_encoder(str(folder))
    folder = copy("config")
    (folder / CONFIG).write_text("{")
    with pytest.raises(InputError, match="no valid JSON"):
        load_encoder(str(folder))
    folder = copy("tokenizer")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="tokenizer.json is missing"):
        load_encoder(str(folder))
    folder = copy("pickled")
    (folder / WEIGHTS).rename(folder / "open_clip_pytorch_model.bin")
    with pytest.raises(InputError, match="pickled weights are not loaded"):
        load_encoder(str(folder))
    with pytest.raises(InputError, match="is no folder"):
        load_encoder(str(tmp_path / "nowhere"))


def test_open_clip_names_need_weights_that_are_safetensors(tmp_path):
    with pytest.raises(InputError, match="say which weights"):
        load_encoder("ViT-B-32")
    pickled = tmp_path / "weights.pt"
    pickled.write_bytes(b"")
    with pytest.raises(InputError, match="not a safetensors file"):
        load_encoder("ViT-B-32", pretrained=str(pickled))


# --- BLIP -----------------------------------------------------------------------------------------


def test_blip_gives_its_projected_features(models):
    encoder = load_encoder(str(models / "blip"), device="cpu")
    assert (encoder.dim, encoder.limit) == (16, 40)
    pictures = [render.draw(s) for s in world.scenes("models", 3)]
    texts = ["a red barn", "the tree is on the left , what color ?", "blue"]
    assert encoder.encode_text(texts).norm(dim=1) == pytest.approx(torch.ones(3))
    model = encoder.model
    tokens = encoder.tokenizer(texts, padding=True, return_tensors="pt")
    pixels = encoder.preprocess(pictures, return_tensors="pt")
    with torch.no_grad():
        theirs = model(
            **tokens, **pixels, use_itm_head=False
        ).itm_score  # what transformers itself scores
    ours = encoder.encode_images(pictures) @ encoder.encode_text(texts).T
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-4)


def test_padding_and_batches_change_nothing(models):
    encoder = load_encoder(str(models / "blip"), device="cpu")
    texts = ["a red barn", "the tree is on the left , what color is the barn ?"]
    alone = torch.cat([encoder.encode_text([t]) for t in texts])
    torch.testing.assert_close(encoder.encode_text(texts), alone, atol=1e-5, rtol=1e-4)


def test_a_long_text_is_cut_and_counted(models):
    encoder = load_encoder(str(models / "blip"), device="cpu")
    long = "red " * 60
    assert encoder.cut([long, "red barn"]) == [True, False]
    torch.testing.assert_close(encoder.encode_text([long]), encoder.encode_text(["red " * 100]))


def test_blip_hash_tells_models_apart(models, tmp_path):
    first = load_encoder(str(models / "blip"), device="cpu").hash
    assert (
        load_encoder(str(models / "blip"), device="cpu").hash
        == first
        != load_encoder(str(models / "clip"), device="cpu").hash
    )


def test_blip_refuses_what_is_damaged(models, tmp_path):
    import shutil

    folder = Path(shutil.copytree(models / "blip", tmp_path / "blip"))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="truncated"):
        load_encoder(str(folder))
    weights.rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="model.safetensors is missing.*pickled"):
        load_encoder(str(folder))
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(InputError, match="type gpt2"):
        load_encoder(str(folder))


def test_quickgelu_mismatch_is_told():
    """OpenAI's weights want QuickGELU;
    with the plain model they give wrong features and no error."""
    with pytest.raises(InputError, match="wants '-quickgelu' in the name"):
        load_encoder("ViT-B-32", "openai")


def test_what_was_fetched_before_is_found_without_a_connection(
    stored, encoder, tmp_path, monkeypatch
):
    """As ``huggingface_hub`` keeps it; what was not fetched is refused at once."""
    repository, tried = tmp_path / "models--some--body", []
    shutil.copytree(stored[0], repository / "snapshots" / "0")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **_: tried.append(args))
    cached = load_encoder("hf-hub:some/body", device="cpu")
    assert torch.equal(cached.encode_text(TEXTS), encoder.encode_text(TEXTS)) and not tried
    monkeypatch.setattr(socket, "getaddrinfo", refuse_to_connect)
    with pytest.raises(InputError, match="hf-hub:some/body-else: open_clip cannot load it"):
        load_encoder("hf-hub:some/body-else")


def refuse_to_connect(*_, **__):
    raise OSError("no network here")


def test_features_that_are_not_finite_are_refused(stored, tmp_path):
    broken = load_encoder(str(stored[0]), device="cpu")
    broken.model.text_projection.fill_(float("nan"))
    with pytest.raises(InputError, match="NaN or infinite features: check its weights"):
        broken.encode_text(TEXTS)
