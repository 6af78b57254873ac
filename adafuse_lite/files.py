"""Files: content hashes, safetensors and JSON read with care and never half written, pictures."""

import hashlib
import json
import os
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from PIL import Image, ImageOps
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from .checks import refusing
from .errors import InputError

CHECKSUM = "checksum"  # in the metadata of the safetensors files that are written here
UNREADABLE = (OSError, ValueError, SyntaxError, AttributeError, Image.DecompressionBombError)  # PIL


def content_hash(*parts):
    """A short hash of what the parts are: files (``Path``), dicts of tensors, values for JSON."""
    digest = hashlib.sha256()
    for part in parts:
        inner = hashlib.sha256()
        if isinstance(part, Path):
            data = part.read_bytes()
            # A checkout may rewrite the line ends of text; that does not make it another model.
            inner.update(data if part.suffix == ".safetensors" else data.replace(b"\r\n", b"\n"))
        elif isinstance(part, dict) and any(isinstance(v, torch.Tensor) for v in part.values()):
            for name, x in sorted(part.items()):
                inner.update(f"{name}{x.dtype}{tuple(x.shape)}".encode())
                inner.update(x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        else:
            inner.update(json.dumps(part, sort_keys=True).encode())
        digest.update(inner.digest())
    return digest.hexdigest()[:16]


def halved(tensors):
    """The tensors to store: float16, save for running statistics, whose range it does not hold."""
    small = lambda k, v: v.half() if v.is_floating_point() and "running_" not in k else v
    return {k: small(k, v).detach().cpu().contiguous() for k, v in tensors.items()}


def make_folder(folder):
    """The folder as a ``Path``, made if need be; ``InputError`` where that is impossible."""
    with refusing(OSError, f"{folder} cannot be made a folder", "name one that can be written"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder)


@contextmanager
def replacing(path):
    """A name to write to, which becomes ``path`` at the end: the whole new file, or the old."""
    part = f"{path}.{os.getpid()}.tmp"  # two processes may write the same file
    remedy = "make room there or name another folder"
    with refusing((OSError, SafetensorError), f"{path} cannot be written", remedy):
        try:
            yield part
            os.replace(part, path)
        finally:
            with suppress(OSError):
                os.unlink(part)


def write_tensors(path, tensors, metadata=None):
    """Write a safetensors file, whole or not at all, with a checksum; returns the checksum."""
    tensors, metadata = {k: v.contiguous() for k, v in tensors.items()}, metadata or {}
    checksum = content_hash(tensors, metadata)
    with replacing(path) as part:
        # Not save_file: it keeps its files from colleagues who share the folder.
        Path(part).write_bytes(save(tensors, {**metadata, CHECKSUM: checksum}))
    return checksum


def write_json(path, value):
    """Write a JSON file that is there as a whole or not at all."""
    with replacing(path) as part:
        Path(part).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


@contextmanager
def reading(path, errors, fault, remedy):
    """``InputError`` ending in ``remedy`` for a file that is missing or, by ``errors``, faulty."""
    with refusing(errors, f"{path} {fault}", remedy):
        try:
            yield
        except FileNotFoundError as error:
            raise InputError(f"{path} is missing: {remedy}.") from error


def read_tensors(path, remedy, checksum=None):
    """The tensors of a safetensors file; ``InputError`` ending in ``remedy`` if it is missing or
    damaged, or does not have the ``checksum`` (default: the one that files written here hold)."""
    return read_all(path, remedy, checksum)[0]


def read_all(path, remedy, checksum=None):
    """The same with the file's metadata, a dict of strings."""
    errors, fault = (SafetensorError, OSError, ValueError), "is truncated or no safetensors file"
    with reading(path, errors, fault, remedy), safe_open(path, "pt") as file:
        tensors, metadata = {k: file.get_tensor(k) for k in file.keys()}, file.metadata() or {}
    own = metadata.pop(CHECKSUM, None)
    wanted = own if checksum is None else checksum
    if wanted is not None and wanted != content_hash(tensors, metadata):
        raise InputError(f"{path} does not hold what was stored (another checksum): {remedy}.")
    return tensors, metadata


def read_json(path, remedy, kinds=(dict,)):
    """The JSON object (or another of ``kinds``) in a file; ``InputError`` ending in ``remedy``."""
    with reading(path, (OSError, ValueError, RecursionError), "is no valid JSON file", remedy):
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    if not isinstance(value, kinds):
        names = " or ".join("object" if kind is dict else "list" for kind in kinds)
        raise InputError(f"{path} holds no JSON {names}: {remedy}.")
    return value


def open_picture(path):
    """The picture in a file (``PIL.Image``, RGB, turned as its EXIF says), or ``InputError``."""
    fault = "does not decode as a picture"
    remedy = "give the folder of the pictures as images=, fetch it again or leave it out"
    with reading(path, UNREADABLE, fault, remedy), Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")
