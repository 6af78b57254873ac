"""The probe: a small CNN that reads the 18 attributes of a postcard off its pixels.

It measures the generator: which stated attributes a drawing got right, and which it made up.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from .. import files
from ..checks import check_pictures, refusing
from ..device import device_of, pick_device
from ..errors import InputError
from ..names import DATA
from . import render
from .world import ATTRIBUTES

FOLDER = DATA / "models" / "probe"
WEIGHTS, CARD = "model.safetensors", "probe.json"
CLASSES = {name: list(values) for name, values in ATTRIBUTES.items()}
SIZES = [len(values) for values in CLASSES.values()]
WIDTHS = (3, 32, 64, 96, 128)  # channels at 64, 32, 16, 8 and 4 pixels a side


class Probe(nn.Module):
    """Pictures [n, 3, 64, 64] in -1..1 -> scores [n, 73]: all attributes' values, in a row."""

    def __init__(self):
        super().__init__()
        layers = []
        for i, (a, b) in enumerate(zip(WIDTHS, WIDTHS[1:])):
            size = 3 if i else 5
            layers.append(nn.Conv2d(a, b, size, stride=2, padding=size // 2, bias=False))
            layers += [nn.BatchNorm2d(b), nn.ReLU()]
        # The 4 x 4 map is flattened, not averaged: half of the attributes are places.
        layers += [nn.Flatten(), nn.Linear(WIDTHS[-1] * 16, 256, bias=False)]
        layers += [nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, sum(SIZES))]
        self.layers = nn.Sequential(*layers)
        self.hash = None

    def forward(self, x):
        return self.layers(x)

    @torch.no_grad()
    def read(self, images, batch=256):
        """``Scene.codes()`` of pictures (``PIL.Image``, 64 x 64): uint8 [n, 18], on the CPU."""
        self.eval()
        check_pictures(images)
        for i, image in enumerate(images):
            if image.size != (render.SIZE, render.SIZE):
                fault = f"Picture {i} is {image.size[0]} x {image.size[1]}, no postcard of 64 x 64"
                raise InputError(f"{fault}: leave the probe out for other worlds.")
        codes = [torch.empty(0, len(SIZES), dtype=torch.uint8)]
        for start in range(0, len(images), batch):
            arrays = [np.asarray(x.convert("RGB")) for x in images[start : start + batch]]
            pixels = torch.from_numpy(np.stack(arrays)).to(device_of(self))
            scores = self(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).split(SIZES, 1)
            codes.append(torch.stack([s.argmax(1) for s in scores], 1).to("cpu", torch.uint8))
        return torch.cat(codes)

    def save(self, folder, **notes):
        """Store the weights (float16) and ``notes`` (accuracies, ...) in ``folder``."""
        folder = files.make_folder(folder)
        files.write_tensors(folder / WEIGHTS, files.halved(self.state_dict()))
        files.write_json(folder / CARD, {"attributes": CLASSES, **notes})


def load_probe(folder=FOLDER, device=None):
    """The probe stored in ``folder``, in evaluation mode, with its content hash in ``.hash``."""
    weights, card, probe = Path(folder, WEIGHTS), Path(folder, CARD), Probe()
    remedy = "restore it, or train the probe anew"
    if files.read_json(card, remedy).get("attributes") != CLASSES:
        raise InputError(f"{card}: the world has other attributes than the probe: {remedy}.")
    with refusing(RuntimeError, f"{weights} holds another model than the probe", remedy):
        probe.load_state_dict(files.read_tensors(weights, remedy))
    probe.hash = files.content_hash(weights, CLASSES)
    return probe.to(pick_device(device)).eval()
