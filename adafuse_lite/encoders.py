"""Dual encoders: texts and pictures to unit vectors of one space.

The bundled encoder is an ``open_clip`` model in a local directory, so any other ``open_clip`` model
is one name away, and so is BLIP for retrieval (``transformers``), the encoder of the paper.
"""

from functools import cached_property, partial
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from open_clip.transform import PreprocessCfg, image_transform_v2

from .checks import all_finite, check_pictures, check_texts
from .device import pick_device
from .errors import InputError
from .files import content_hash, halved, read_json, read_tensors
from .names import DEFAULT, bundled, files_of, load_model, local_folder

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
# Of a directory's own tokenizer; without one the tokenizer is a built-in of open_clip.
TOKENIZER = "tokenizer.json tokenizer_config.json vocab.json merges.txt special_tokens_map.json"
NO_PICKLE = "restore it, or save the model as safetensors (pickled weights are not loaded)"
REMEDY = "check the name and the connection, or download it with huggingface_hub.snapshot_download"
BLIP_LIMIT = 256  # tokens that ADaFuSE reads of a dialogue (its released code)


class Encoder:
    """An ``open_clip`` model with its own tokenizer and preprocessing.

    ``.dim``: width of the features; ``.limit``: tokens read of a text, start and end included;
    ``.hash``: content of the files it is made of, or of the weights. Models that are not bundled
    compute in half precision on an NVIDIA GPU (``half``), all others in float32.
    """

    def __init__(self, model, tokenizer, preprocess, made_of, limit, device=None, half=False):
        self.device = pick_device(device)
        self.model = model.to(self.device).eval().requires_grad_(False)
        self.tokenizer, self.preprocess, self.limit = tokenizer, preprocess, limit
        self._made_of, self._half = made_of, half and self.device.type == "cuda"
        self.dim = self.encode_text(["a"]).shape[1]

    @cached_property
    def hash(self):
        return content_hash(*(self._made_of or [halved(self.model.state_dict()), self.limit]))

    def encode_text(self, texts, batch=256):
        """Texts, cut at ``limit`` tokens -> [n, dim], unit length, float32, on ``device``."""
        check_texts(texts)
        return self._unit(self._texts, list(texts), batch)

    def encode_images(self, images, batch=256):
        """Pictures (``PIL.Image``) -> [n, dim], unit length, float32, on the encoder's device."""
        check_pictures(images)
        return self._unit(self._images, images, batch)

    @torch.no_grad()
    def _unit(self, encode, items, batch):
        if not items:
            return torch.empty(0, self.dim, device=self.device)
        with torch.autocast(self.device.type, torch.float16, enabled=self._half):
            parts = [encode(items[i : i + batch]).float() for i in range(0, len(items), batch)]
        features = torch.cat(parts)
        if not all_finite(features):
            raise InputError("The encoder gives NaN or infinite features: check its weights.")
        return F.normalize(features, dim=-1)

    def cut(self, texts):
        """Whether each text is longer than ``limit`` (list of bool; its sum counts them)."""
        return [n > self.limit for n in self.count_tokens(texts)]

    # What depends on the library:
    def _texts(self, texts):
        return self.model.encode_text(self.tokenizer(texts).to(self.device))

    def _images(self, images):
        pixels = torch.stack([self.preprocess(image.convert("RGB")) for image in images])
        return self.model.encode_image(pixels.to(self.device))

    def count_tokens(self, texts):
        """How many tokens each text has, start and end included, before it is cut (list of int)."""
        check_texts(texts)
        if hasattr(self.tokenizer, "encode"):  # open_clip's own CLIP tokenizer
            return [len(self.tokenizer.encode(text)) + 2 for text in texts]
        clean = getattr(self.tokenizer, "clean_fn", str)
        rows = self.tokenizer.tokenizer([clean(text) for text in texts], verbose=False)
        return [len(ids) for ids in rows["input_ids"]]


class BlipEncoder(Encoder):
    """BLIP for retrieval: the features behind its projections, without the cross-attention."""

    def _texts(self, texts):
        options = {"padding": True, "truncation": True, "max_length": self.limit}
        tokens = self.tokenizer(texts, **options, return_tensors="pt").to(self.device)
        inputs = {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
        states = self.model.text_encoder(**inputs).last_hidden_state
        return self.model.text_proj(states[:, 0])  # the first token stands for the text

    def _images(self, images):
        pixels = self.preprocess([image.convert("RGB") for image in images], return_tensors="pt")
        states = self.model.vision_model(pixels["pixel_values"].to(self.device)).last_hidden_state
        return self.model.vision_proj(states[:, 0])

    def count_tokens(self, texts):
        check_texts(texts)
        return [len(ids) for ids in self.tokenizer(list(texts), verbose=False)["input_ids"]]


def load_encoder(name=DEFAULT, pretrained=None, device=None):
    """The encoder called ``name``: a bundled world's, a model of ``open_clip`` or one of BLIP.

    Of ``open_clip``: its directory, one on the hub ("hf-hub:..."), or a pair of name and weights'
    tag (``pretrained``) of ``open_clip.list_pretrained()``. BLIP for retrieval: its directory, or a
    name on the hub such as "Salesforce/blip-itm-base-coco". The device is a GPU if there is one and
    no other is given. Raises ``InputError`` for weights that are missing, damaged or pickled.
    """
    wanted = "give the path of an open_clip or BLIP directory, or the name of a model"
    folder, device = local_folder(name, "encoder", wanted), pick_device(device)
    kind, library, load = Encoder, "open_clip", partial(_open_clip_pair, name, pretrained)
    if (folder / "config.json").exists() if folder else "blip" in name.lower() and not pretrained:
        kind, library, load = BlipEncoder, "transformers", partial(_blip, name, folder)
    elif folder or name.startswith("hf-hub:"):
        load = partial(_open_clip_directory, name, folder)
    make = lambda **where: kind(*load(**where), device, half=not bundled(name, "encoder"))
    return load_model(library, make, name, folder, REMEDY)


# Each of these gives what an encoder is made of: model, tokenizer, preprocess, made_of, limit.
def _open_clip_directory(name, folder, local_files_only):
    patterns = ["*.json", "*.txt", "*.model", WEIGHTS]
    source = files_of(name.removeprefix("hf-hub:"), folder, patterns, local_files_only)
    config = read_json(source / CONFIG, "restore it, or name a directory that open_clip wrote")
    read_tensors(source / WEIGHTS, NO_PICKLE)
    text = config["model_cfg"]["text_cfg"]
    if ":" in config["model_cfg"]["vision_cfg"].get("timm_model_name", ""):
        raise InputError(f"{source / CONFIG} describes a model that lies elsewhere: name that one.")
    paths = [source / file for file in (CONFIG, WEIGHTS, *TOKENIZER.split())]
    if text.get("hf_tokenizer_name") and not paths[2].exists():
        raise InputError(f"{paths[2]} is missing: restore it, or save it beside the model.")
    made_of = [path for path in paths if path.exists()] if folder else None
    return _open_clip(f"local-dir:{source}", text, made_of, local_files_only)


def _open_clip_pair(name, pretrained, local_files_only):
    config = open_clip.get_model_config(name.replace("/", "-"))
    if config is None or not pretrained:
        remedy = "as in pretrained='openai'; open_clip.list_pretrained() lists them"
        raise InputError(f"{name}: say which weights are meant, {remedy}.")
    published = open_clip.get_pretrained_cfg(name.replace("/", "-"), pretrained)
    weights = Path(pretrained)
    if published:
        if published.get("quick_gelu", False) != config.get("quick_gelu", False):
            raise InputError(f"{name}: {pretrained} wants '-quickgelu' in the name, or none there.")
        repository, _, file = published["hf_hub"].rpartition("/")
        file = Path(file or WEIGHTS).with_suffix(".safetensors").name
        weights = files_of(repository, None, [file], local_files_only) / file
    if weights.suffix != ".safetensors":
        raise InputError(f"{name}: {pretrained} is not a safetensors file, nor one of its tags.")
    read_tensors(weights, "choose weights that are published as safetensors")
    options = {"pretrained": str(weights), "force_preprocess_cfg": published}
    return _open_clip(name, config["text_cfg"], None, local_files_only, **options)


def _open_clip(source, text, made_of, local_files_only, **options):
    if tower := text.get("hf_model_name"):  # described in a repository of its own
        described = str(files_of(tower, None, ["*.json"], local_files_only))
        options["text_cfg"] = {**text, "hf_model_name": described, "hf_model_pretrained": False}
    model = open_clip.create_model(source, **options)
    preprocess = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
    where = {"local_files_only": local_files_only, "trust_remote_code": False}
    tokenizer = open_clip.get_tokenizer(source, **(where if text.get("hf_tokenizer_name") else {}))
    return model, tokenizer, preprocess, made_of, tokenizer.context_length


def _blip(name, folder, local_files_only):
    from transformers import AutoImageProcessor, AutoTokenizer, BlipForImageTextRetrieval

    described = files_of(name, folder, ["*.json", "*.txt"], local_files_only)
    kind = read_json(described / "config.json", "restore it").get("model_type")
    if kind != "blip":
        raise InputError(f"{name} holds a model of type {kind}: give one of open_clip or BLIP.")
    if folder:
        read_tensors(folder / "model.safetensors", NO_PICKLE)
    options = {"use_safetensors": True, "local_files_only": local_files_only}
    model = BlipForImageTextRetrieval.from_pretrained(str(folder or name), **options)
    tokenizer = AutoTokenizer.from_pretrained(described, trust_remote_code=False)
    preprocess = AutoImageProcessor.from_pretrained(described, trust_remote_code=False)
    limit = min(BLIP_LIMIT, model.config.text_config.max_position_embeddings)
    return model, tokenizer, preprocess, None, limit
