"""Dual encoders: texts and pictures to unit vectors of one space.

The bundled encoder is an ``open_clip`` model in a local directory, so any other ``open_clip`` model is one name away, and so
is BLIP for retrieval (``transformers``), the encoder of the paper.
"""

import warnings
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from unittest import mock

import open_clip
import torch
import torch.nn.functional as F
from open_clip.pretrained import download_pretrained_from_hf

from .checks import check_pictures, check_texts, first_line
from .device import pick_device
from .errors import InputError
from .files import content_hash, halved, read_json, read_tensors, write_json, write_tensors
from .names import DEFAULT, bundled, local_first, local_folder, looks_like_a_path

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
)
BLIP_LIMIT = 256  # tokens that ADaFuSE reads of a dialogue (its released code)


class Encoder:
    """An ``open_clip`` model with its own tokenizer and preprocessing.

    ``.dim``: width of the features; ``.limit``: tokens read of a text, start and end included; ``.hash``: content hash.
    Models that are not bundled compute in half precision on an NVIDIA GPU (``half``), all others in float32.
    """

    def __init__(self, model, tokenizer, preprocess, made_of, limit, device=None, half=False):
        self.device = pick_device(device)
        self.model = model.to(self.device).eval().requires_grad_(False)
        self.tokenizer, self.preprocess, self._made_of, self.limit = (
            tokenizer,
            preprocess,
            made_of,
            limit,
        )
        self._half = half and self.device.type == "cuda"
        self.dim = self.encode_text(["a"]).shape[1]

    @cached_property
    def hash(self):
        return content_hash(*(self._made_of or [halved(self.model.state_dict()), self.limit]))

    def encode_text(self, texts, batch=256):
        """Texts -> [n, dim], unit length, float32, on the encoder's device. Texts are cut at ``limit`` tokens; ``cut`` tells which."""
        check_texts(texts)
        return self._unit(self._texts, list(texts), batch)

    def encode_images(self, images, batch=256):
        """Pictures (``PIL.Image``) -> [n, dim], unit length, float32, on the encoder's device."""
        check_pictures(images)
        return self._unit(self._images, images, batch)

    @torch.no_grad()
    def _unit(self, encode, items, batch):
        with torch.autocast(self.device.type, torch.float16, enabled=self._half):
            parts = [encode(items[i : i + batch]).float() for i in range(0, len(items), batch)]
        return (
            F.normalize(torch.cat(parts), dim=-1)
            if parts
            else torch.empty(0, self.dim, device=self.device)
        )

    def cut(self, texts):
        """Whether each text is longer than ``limit`` (list of bool; its sum counts them)."""
        return [n > self.limit for n in self.count_tokens(texts)]

    # What depends on the library:
    def _texts(self, texts):
        return self.model.encode_text(self.tokenizer(texts).to(self.device))

    def _images(self, images):
        return self.model.encode_image(
            torch.stack([self.preprocess(x.convert("RGB")) for x in images]).to(self.device)
        )

    def count_tokens(self, texts):
        """How many tokens each text has, start and end included; one longer than ``limit`` is cut when encoded."""
        check_texts(texts)
        if hasattr(self.tokenizer, "encode"):  # open_clip's own CLIP tokenizer
            return [len(self.tokenizer.encode(text)) + 2 for text in texts]
        clean = getattr(self.tokenizer, "clean_fn", str)
        return [
            len(ids)
            for ids in self.tokenizer.tokenizer([clean(t) for t in texts], verbose=False)[
                "input_ids"
            ]
        ]


class BlipEncoder(Encoder):
    """BLIP for retrieval of ``transformers``: the features behind its projections, without the cross-attention."""

    def _texts(self, texts):
        tokens = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.limit, return_tensors="pt"
        ).to(self.device)
        read = self.model.text_encoder(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
        )
        return self.model.text_proj(
            read.last_hidden_state[:, 0]
        )  # the first token stands for the text

    def _images(self, images):
        pixels = self.preprocess([x.convert("RGB") for x in images], return_tensors="pt")[
            "pixel_values"
        ].to(self.device)
        return self.model.vision_proj(self.model.vision_model(pixels).last_hidden_state[:, 0])

    def count_tokens(self, texts):
        check_texts(texts)
        return [len(ids) for ids in self.tokenizer(list(texts), verbose=False)["input_ids"]]


def load_encoder(name=DEFAULT, pretrained=None, device=None):
    """The encoder called ``name``: "postcards", a local ``open_clip`` directory, an ``open_clip`` model, or a BLIP retrieval
    model of ``transformers`` (a local directory, or a name on the hub such as "Salesforce/blip-itm-base-coco").

    ``pretrained`` is the weights' tag of an ``open_clip`` model (``open_clip.list_pretrained()`` lists the pairs). The
    device is a GPU if there is one and no other is given. Raises ``InputError`` for weights that are missing, damaged or
    pickled.
    """
    folder, own = local_folder(name, "encoder"), bundled(name, "encoder") is not None
    if folder is None and looks_like_a_path(name):
        raise InputError(
            f"{name} is no folder: give the path of an open_clip or BLIP directory, or the name of a model."
        )
    if (folder and (folder / "config.json").exists()) or (
        folder is None and not pretrained and "blip" in name.lower()
    ):
        return _load_blip(name, folder, device)
    with nullcontext():
        if folder:
            config = read_json(
                folder / CONFIG, "restore it, or name a directory that open_clip wrote"
            )
            read_tensors(
                folder / WEIGHTS,
                "restore it, or save the model as safetensors (pickled weights are not loaded)",
            )
            # A name of a directory's own tokenizer; without one the tokenizer is a built-in of open_clip.
            files = [folder / n for n in (CONFIG, WEIGHTS) + TOKENIZER if (folder / n).exists()]
            text = config.get("model_cfg")
            text = text.get("text_cfg") if isinstance(text, dict) else None
            if not isinstance(text, dict):
                raise InputError(
                    f"{folder / CONFIG} describes no open_clip model: restore it, or save the model anew."
                )
            if text.get("hf_tokenizer_name") and folder / TOKENIZER[0] not in files:
                raise InputError(
                    f"{folder / TOKENIZER[0]} is missing: restore it, or save the tokenizer beside the model."
                )
            source, pretrained = f"local-dir:{folder}", None
        else:
            source, files = name, None
            _refuse_pickles(name, pretrained)
        try:
            with warnings.catch_warnings(), no_code_of_models():
                warnings.filterwarnings("error", message=".*QuickGELU mismatch.*")
                model, _, preprocess = open_clip.create_model_and_transforms(
                    source, pretrained=pretrained
                )
                tokenizer = open_clip.get_tokenizer(source)
            return Encoder(
                model, tokenizer, preprocess, files, tokenizer.context_length, device, half=not own
            )
        except Exception as error:
            raise InputError(
                f"{name}: open_clip cannot load it ({first_line(error)}); choose a pair of "
                "open_clip.list_pretrained(), with '-quickgelu' where the weights want it."
            ) from error


@contextmanager
def no_code_of_models():
    """Within it, transformers neither runs code that a model brings along nor asks whether it may: an ``open_clip_config.json``
    can hold ``{"tokenizer_kwargs": {"trust_remote_code": true}}``, which ``open_clip`` passes on."""
    from transformers import dynamic_module_utils

    made = open_clip.factory.HFTokenizer
    safe = lambda *args, **kwargs: made(*args, **{**kwargs, "trust_remote_code": False})
    with (
        mock.patch.object(open_clip.factory, "HFTokenizer", safe),
        mock.patch.object(dynamic_module_utils, "TIME_OUT_REMOTE_CODE", 0),
    ):
        yield


def _load_blip(name, folder, device):
    from transformers import AutoImageProcessor, AutoTokenizer, BlipForImageTextRetrieval

    if (
        folder
        and (kind := read_json(folder / "config.json", "restore it").get("model_type")) != "blip"
    ):
        raise InputError(
            f"{folder} holds a model of type {kind}: give an open_clip directory or BLIP for retrieval."
        )
    if folder:
        read_tensors(
            folder / "model.safetensors",
            "restore it, or save the model as safetensors (pickled weights are not loaded)",
        )
    source = str(folder or name)
    try:
        with nullcontext():
            model = BlipForImageTextRetrieval.from_pretrained(source, use_safetensors=True)
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
            preprocess = AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
    except Exception as error:
        raise InputError(
            f"{name}: transformers cannot load it as BLIP for retrieval ({first_line(error)}); check the name "
            "and the connection, or download it once with huggingface_hub.snapshot_download (a revision that has "
            "model.safetensors) and give that folder."
        ) from error
    limit = min(BLIP_LIMIT, model.config.text_config.max_position_embeddings)
    return BlipEncoder(model, tokenizer, preprocess, None, limit, device, half=True)


def _refuse_pickles(name, pretrained):
    """Find the weights as open_clip will, and refuse them unless they are safetensors."""
    try:
        if name.startswith("hf-hub:"):
            path = download_pretrained_from_hf(name.removeprefix("hf-hub:"))
        elif not pretrained:
            raise InputError(
                f"{name}: say which weights are meant, as in pretrained='openai'; "
                "open_clip.list_pretrained() lists them."
            )
        else:
            known = open_clip.get_pretrained_cfg(name.replace("/", "-"), pretrained)
            path = open_clip.download_pretrained(known) if known else pretrained
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{name}: the weights cannot be fetched ({first_line(error)}); check the name and the "
            "connection, download it once with huggingface_hub.snapshot_download, or give a local "
            "open_clip directory."
        ) from error
    if Path(path).suffix != ".safetensors":
        raise InputError(
            f"{name}: the weights {Path(path).name} are not a safetensors file, and no other kind is loaded; "
            "choose weights that are published as safetensors."
        )
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
    preprocess = {
        "size": config["vision_cfg"]["image_size"],
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    write_tensors(folder / WEIGHTS, halved(model.state_dict()))
    write_json(folder / CONFIG, {"model_cfg": config, "preprocess_cfg": preprocess})
