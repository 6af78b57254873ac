"""Dual encoders: texts and pictures to unit vectors of one space.

The bundled encoder is an ``open_clip`` model in a local directory, so any other ``open_clip`` model is one name away.
"""
import warnings
from functools import cached_property
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from open_clip.pretrained import download_pretrained_from_hf

from .errors import InputError
from .files import (
    check_pictures,
    check_texts,
    content_hash,
    halved,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)

BUNDLED = {"postcards": Path(__file__).parent / "data" / "models" / "encoder"}
CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json")


class Encoder:
    """An ``open_clip`` model with its own tokenizer and preprocessing.

    ``.dim``: width of the features; ``.limit``: tokens read of a text, start and end included; ``.hash``: content hash.
    """

    def __init__(self, model, tokenizer, preprocess, made_of, device=None):
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = model.to(self.device).eval().requires_grad_(False)
        self.tokenizer, self.preprocess, self._made_of = tokenizer, preprocess, made_of
        self.limit = tokenizer.context_length
        self.dim = self.encode_text(["a"]).shape[1]

    @cached_property
    def hash(self):
        return content_hash(*(self._made_of or [halved(self.model.state_dict()), self.limit]))

    @torch.no_grad()
    def encode_text(self, texts, batch=256):
        """Texts -> [n, dim], unit length, float32, on the encoder's device. Texts are cut at ``limit`` tokens."""
        check_texts(texts)
        parts = [self.model.encode_text(self.tokenizer(list(texts[i:i + batch])).to(self.device))
                 for i in range(0, len(texts), batch)]
        return self._unit(parts)

    @torch.no_grad()
    def encode_images(self, images, batch=256):
        """Pictures (``PIL.Image``) -> [n, dim], unit length, float32, on the encoder's device."""
        check_pictures(images)
        parts = [self.model.encode_image(torch.stack([self.preprocess(x.convert("RGB")) for x in images[i:i + batch]])
                                         .to(self.device)) for i in range(0, len(images), batch)]
        return self._unit(parts)

    def _unit(self, parts):
        return F.normalize(torch.cat(parts).float(), dim=-1) if parts else torch.empty(0, self.dim, device=self.device)

    def count_tokens(self, texts):
        """How many tokens each text has, start and end included; one longer than ``limit`` is cut when encoded."""
        check_texts(texts)
        if hasattr(self.tokenizer, "encode"):                              # open_clip's own CLIP tokenizer
            return [len(self.tokenizer.encode(text)) + 2 for text in texts]
        clean = getattr(self.tokenizer, "clean_fn", str)
        return [len(ids) for ids in self.tokenizer.tokenizer([clean(t) for t in texts], verbose=False)["input_ids"]]


def load_encoder(name="postcards", pretrained=None, device=None):
    """The encoder called ``name``: "postcards", a local ``open_clip`` directory, or an ``open_clip`` model.

    ``pretrained`` is the weights' tag for the last of these (``open_clip.list_pretrained()`` lists the pairs). The
    device is a GPU if there is one and no other is given. Raises ``InputError`` for weights that are missing, damaged or
    pickled.
    """
    folder = Path(BUNDLED.get(name, name))
    if name in BUNDLED or folder.is_dir():
        config = read_json(folder / CONFIG, "restore it, or name a directory that open_clip wrote")
        read_tensors(folder / WEIGHTS, "restore it, or save the model as safetensors (pickled weights are not loaded)")
        # A name of a directory's own tokenizer; without one the tokenizer is a built-in of open_clip.
        files = [folder / n for n in (CONFIG, WEIGHTS) + TOKENIZER if (folder / n).exists()]
        if config.get("model_cfg", {}).get("text_cfg", {}).get("hf_tokenizer_name") and folder / TOKENIZER[0] not in files:
            raise InputError(f"{folder / TOKENIZER[0]} is missing: restore it, or save the tokenizer beside the model.")
        source, pretrained = f"local-dir:{folder}", None
    elif Path(name).is_absolute() or name.startswith("."):
        raise InputError(f"{name} is no folder: give the path of an open_clip directory or the name of a model.")
    else:
        source, files = name, None
        _refuse_pickles(name, pretrained)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*QuickGELU mismatch.*")
            model, _, preprocess = open_clip.create_model_and_transforms(source, pretrained=pretrained)
        tokenizer = open_clip.get_tokenizer(source)
    except Exception as error:
        raise InputError(f"{name}: open_clip cannot load it ({_first_line(error)}); choose a pair of "
                         "open_clip.list_pretrained(), with '-quickgelu' where the weights want it.") from error
    return Encoder(model, tokenizer, preprocess, files, device)


def _first_line(error):
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _refuse_pickles(name, pretrained):
    """Find the weights as open_clip will, and refuse them unless they are safetensors."""
    try:
        if name.startswith("hf-hub:"):
            path = download_pretrained_from_hf(name.removeprefix("hf-hub:"))
        elif not pretrained:
            raise InputError(f"{name}: say which weights are meant, as in pretrained='openai'; "
                             "open_clip.list_pretrained() lists them.")
        else:
            known = open_clip.get_pretrained_cfg(name.replace("/", "-"), pretrained)
            path = open_clip.download_pretrained(known) if known else pretrained
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{name}: the weights cannot be fetched ({_first_line(error)}); check the name and the "
                         "connection, or give a local open_clip directory.") from error
    if Path(path).suffix != ".safetensors":
        raise InputError(f"{name}: the weights {Path(path).name} are not a safetensors file, and no other kind is loaded; "
                         "choose weights that are published as safetensors.")
    if Path(path).exists():
        read_tensors(path, "fetch it again")


def save_encoder(model, config, tokenizer, folder):
    """Store a trained ``open_clip`` CLIP model as an ``open_clip`` local directory, in float16.

    ``config`` is the model config whose ``text_cfg`` holds ``hf_tokenizer_name``; ``tokenizer`` is a ``transformers`` one
    and is stored in the same directory, where ``open_clip`` looks for it. Pictures of ``image_size`` pass unchanged but for the
    mapping of 0..255 to -1..1.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    preprocess = {"size": config["vision_cfg"]["image_size"], "mean": [0.5] * 3, "std": [0.5] * 3,
                  "interpolation": "bicubic", "resize_mode": "shortest"}
    write_tensors(folder / WEIGHTS, halved(model.state_dict()))
    write_json(folder / CONFIG, {"model_cfg": config, "preprocess_cfg": preprocess})
