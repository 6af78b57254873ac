"""Checkpoints: a training that was broken off goes on, and ends as an unbroken one would."""

import json
from pathlib import Path

import torch

from .checks import refusing
from .errors import InputError
from .files import make_folder, read_all, write_tensors


def save_checkpoint(path, optimizer, modules, **notes):
    """Store ``modules`` {name: module}, the optimizer and ``notes`` (for JSON) in one file.

    It is replaced in one go: a kill at any moment leaves the old one or the new one. Without a
    ``path`` (None) nothing is stored.
    """
    if path is None:
        return
    tensors = {f"{name}.{k}": v for name, m in modules.items() for k, v in m.state_dict().items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{k}": torch.as_tensor(v) for k, v in state.items()}
    tensors = {k: v.detach().cpu().clone() for k, v in tensors.items()}
    make_folder(Path(path).parent)
    write_tensors(path, tensors, {k: json.dumps(v) for k, v in notes.items()})


def load_checkpoint(path, optimizer, modules, settings=None, read=dict):
    """Put modules and optimizer where the file left off -> its notes; None where there is no file.

    ``settings``: what must equal the note of that name. ``read``: what the notes are made into. A
    damaged file, one of another training or of none ends in ``InputError``.
    """
    if path is None or not Path(path).exists():
        return None
    remedy = "delete it to start anew"
    tensors, metadata = read_all(path, remedy)
    errors = (KeyError, TypeError, AttributeError, ValueError, RuntimeError)
    with refusing(errors, f"{path} is no training checkpoint", remedy):
        notes = {k: json.loads(v) for k, v in metadata.items()}
        known = notes["settings"] if settings else {}
        if changed := sorted(k for k in settings or {} if known.get(k) != settings[k]):
            fault = f"{path} belongs to another training ({', '.join(changed)} changed)"
            raise InputError(f"{fault}; {remedy} or give another file.")
        for name, module in modules.items():
            module.load_state_dict(_part(tensors, f"{name}."))
        state = {}
        for key, value in _part(tensors, "optimizer.").items():
            i, name = key.split(".")
            state.setdefault(int(i), {})[name] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        return read(notes)


def _part(tensors, start):
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
