"""What every stored model and bank needs: content hashes, safetensors read with care, files that are never half written."""
import hashlib
import json
import os
from pathlib import Path

import torch
from PIL import Image, ImageOps
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .errors import InputError


def content_hash(*parts):
    """A short hash of what the parts hold: a file (``Path``), a dict of tensors, or anything that JSON can write."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            data = part.read_bytes()
            # A checkout may rewrite the line ends of text; that does not make it another model.
            piece = data if part.suffix == ".safetensors" else data.replace(b"\r\n", b"\n")
        elif isinstance(part, dict) and any(isinstance(v, torch.Tensor) for v in part.values()):
            piece = b"".join(f"{k}{v.dtype}{tuple(v.shape)}".encode() + v.detach().cpu().contiguous().reshape(-1)
                             .view(torch.uint8).numpy().tobytes() for k, v in sorted(part.items()))
        else:
            piece = json.dumps(part, sort_keys=True).encode()
        digest.update(hashlib.sha256(piece).digest())
    return digest.hexdigest()[:16]


def halved(tensors):
    """The tensors to store: float16, save for running statistics, whose range float16 does not hold."""
    return {k: (v.half() if v.is_floating_point() and "running_" not in k else v).detach().cpu().contiguous()
            for k, v in tensors.items()}


def write_tensors(path, tensors, metadata=None):
    """Write a safetensors file that is there as a whole or not at all."""
    save_file({k: v.contiguous() for k, v in tensors.items()}, f"{path}.{os.getpid()}.tmp", metadata)
    os.replace(f"{path}.{os.getpid()}.tmp", path)


def write_json(path, value):
    """Write a JSON file that is there as a whole or not at all."""
    Path(f"{path}.tmp").write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(f"{path}.tmp", path)


def read_tensors(path, remedy):
    """The tensors of a safetensors file; raises ``InputError`` ending in ``remedy`` if it is missing or damaged."""
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing: {remedy}.") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is truncated or no safetensors file: {remedy}.") from error


def read_json(path, remedy):
    """The content of a JSON file; raises ``InputError`` ending in ``remedy`` if it is missing or malformed."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing: {remedy}.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no valid JSON file: {remedy}.") from error


def optimizer_tensors(optimizer):
    """The optimizer's state as plain tensors, for a checkpoint: {"optimizer.<parameter>.<name>": tensor}."""
    return {f"optimizer.{i}.{k}": torch.as_tensor(v).detach().cpu().clone()
            for i, state in optimizer.state_dict()["state"].items() for k, v in state.items()}


def restore_optimizer(optimizer, tensors):
    """The inverse: put the state among a checkpoint's ``tensors`` back into the optimizer; other tensors are left alone."""
    state = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, i, name = key.split(".")
            state.setdefault(int(i), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def model_device():
    """Where models run unless told otherwise: an NVIDIA GPU, an Apple GPU, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")


def first_line(error):
    """What an error says, in a line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def check_texts(texts):
    """Refuse texts that no model can read."""
    if isinstance(texts, str):
        raise InputError(f"A list of texts is needed, not the single text {texts[:40]!r}: put it in brackets.")
    for i, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"Text {i} is {'empty' if isinstance(text, str) else f'a {type(text).__name__}'}: "
                             "give a string with at least one word.")


def check_pictures(images):
    """Refuse anything but PIL pictures."""
    for i, image in enumerate(images):
        if not hasattr(image, "convert"):
            raise InputError(f"Picture {i} is a {type(image).__name__}: open it with PIL.Image.open first.")


def open_picture(path):
    """The picture in a file (``PIL.Image``, RGB, turned as its EXIF data says); raises ``InputError`` if it cannot be read."""
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError:
        raise InputError(f"{path} is missing: give the folder of the pictures as images=, or fetch them.") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} does not decode as a picture ({first_line(error)}): fetch it again or leave it out.") from error
