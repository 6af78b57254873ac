"""What every stored model and bank needs: content hashes, safetensors read with care, files that are never half written."""

import hashlib
import json
import os
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from PIL import Image, ImageOps
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .errors import InputError

CHECKSUM = "checksum"  # in the metadata of the safetensors files that are written here


def content_hash(*parts):
    """A short hash of what the parts hold: a file (``Path``), a dict of tensors, or anything that JSON can write."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            data = part.read_bytes()
            # A checkout may rewrite the line ends of text; that does not make it another model.
            piece = [data if part.suffix == ".safetensors" else data.replace(b"\r\n", b"\n")]
        elif isinstance(part, dict) and any(isinstance(v, torch.Tensor) for v in part.values()):
            piece = _bytes(part)
        else:
            piece = [json.dumps(part, sort_keys=True).encode()]
        inner = hashlib.sha256()
        for data in piece:
            inner.update(data)
        digest.update(inner.digest())
    return digest.hexdigest()[:16]


def _bytes(tensors):
    for name, x in sorted(tensors.items()):
        yield f"{name}{x.dtype}{tuple(x.shape)}".encode()
        yield x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def halved(tensors):
    """The tensors to store: float16, save for running statistics, whose range float16 does not hold."""
    return {
        k: (v.half() if v.is_floating_point() and "running_" not in k else v)
        .detach()
        .cpu()
        .contiguous()
        for k, v in tensors.items()
    }


def make_folder(folder):
    """The folder as a ``Path``, made if it is not there; raises ``InputError`` where that is not possible."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be made a folder ({first_line(error)}): name another one that can be written."
        ) from error
    return Path(folder)


@contextmanager
def replacing(path):
    """A name to write to, which becomes ``path`` at the end: the file is there as a whole, or the old one is still there."""
    part = f"{path}.{os.getpid()}.tmp"  # two processes may write the same file
    try:
        yield part
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path} cannot be written ({first_line(error)}): make room there or name another folder."
        ) from error
    finally:
        with suppress(OSError):
            os.unlink(part)


def write_tensors(path, tensors, metadata=None):
    """Write a safetensors file that is there as a whole or not at all, with a checksum; returns the checksum."""
    tensors, metadata = {k: v.contiguous() for k, v in tensors.items()}, metadata or {}
    checksum = content_hash(tensors, metadata)
    with replacing(path) as part:
        save_file(tensors, part, {**metadata, CHECKSUM: checksum})
    return checksum


def write_json(path, value):
    """Write a JSON file that is there as a whole or not at all."""
    with replacing(path) as part:
        Path(part).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def read_tensors(path, remedy, checksum=None):
    """The tensors of a safetensors file; raises ``InputError`` ending in ``remedy`` if it is missing or damaged, or does not
    have the ``checksum`` (default: the one that files written here hold)."""
    return read_all(path, remedy, checksum)[0]


def read_all(path, remedy, checksum=None):
    """The same with the file's metadata, a dict of strings."""
    try:
        with safe_open(path, "pt") as file:
            tensors, metadata = {k: file.get_tensor(k) for k in file.keys()}, file.metadata() or {}
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing: {remedy}.") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is truncated or no safetensors file: {remedy}.") from error
    own = metadata.pop(CHECKSUM, None)
    wanted = own if checksum is None else checksum
    if wanted is not None and wanted != content_hash(tensors, metadata):
        raise InputError(
            f"{path} does not hold what was stored, its checksum is another: {remedy}."
        )
    return tensors, metadata


def read_json(path, remedy, kinds=(dict,)):
    """The JSON object (or another of ``kinds``) in a file; raises ``InputError`` ending in ``remedy`` if it is missing or malformed."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing: {remedy}.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is no valid JSON file ({first_line(error)}): {remedy}."
        ) from error
    if not isinstance(value, kinds):
        raise InputError(
            f"{path} holds no JSON {' or '.join('object' if k is dict else 'list' for k in kinds)}: {remedy}."
        )
    return value


def optimizer_tensors(optimizer):
    """The optimizer's state as plain tensors, for a checkpoint: {"optimizer.<parameter>.<name>": tensor}."""
    return {
        f"optimizer.{i}.{k}": torch.as_tensor(v).detach().cpu().clone()
        for i, state in optimizer.state_dict()["state"].items()
        for k, v in state.items()
    }


def restore_optimizer(optimizer, tensors):
    """The inverse: put the state among a checkpoint's ``tensors`` back into the optimizer; other tensors are left alone."""
    state = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, i, name = key.split(".")
            state.setdefault(int(i), {})[name] = value
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def model_device():
    """Where models run unless told otherwise: an NVIDIA GPU, an Apple GPU, or the CPU."""
    return torch.device(
        "cuda"
        if torch.cuda.is_available()
        else "mps"
        if torch.backends.mps.is_available()
        else "cpu"
    )


def first_line(error):
    """What an error says, in a line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def check_texts(texts):
    """Refuse texts that no model can read."""
    if isinstance(texts, str):
        raise InputError(
            f"A list of texts is needed, not the single text {texts[:40]!r}: put it in brackets."
        )
    for i, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise InputError(
                f"Text {i} is {'empty' if isinstance(text, str) else f'a {type(text).__name__}'}: "
                "give a string with at least one word."
            )
        if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
            raise InputError(
                f"Text {i} holds half a character (a lone surrogate): write it anew or leave that character out."
            )


def check_pictures(images):
    """Refuse anything but PIL pictures."""
    for i, image in enumerate(images):
        if not hasattr(image, "convert"):
            raise InputError(
                f"Picture {i} is a {type(image).__name__}: open it with PIL.Image.open first."
            )


def open_picture(path):
    """The picture in a file (``PIL.Image``, RGB, turned as its EXIF data says); raises ``InputError`` if it cannot be read."""
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError:
        raise InputError(
            f"{path} is missing: give the folder of the pictures as images=, or fetch them."
        ) from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path} does not decode as a picture ({first_line(error)}): fetch it again or leave it out."
        ) from error
