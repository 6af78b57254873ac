"""The probe: a small CNN that reads the 18 attributes of a postcard off its pixels.

It measures the generator: which stated attributes a drawing got right, and which unstated ones it made up.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..checks import check_pictures
from ..errors import InputError
from ..files import content_hash, halved, read_json, read_tensors, write_json, write_tensors
from . import render, world

FOLDER = Path(__file__).parent / "data" / "models" / "probe"
WEIGHTS, CARD = "model.safetensors", "probe.json"
SIZES = [len(values) for values in world.ATTRIBUTES.values()]
WIDTHS = (3, 32, 64, 96, 128)  # channels at 64, 32, 16, 8 and 4 pixels a side


class Probe(nn.Module):
    """Pictures [n, 3, 64, 64] with values in -1..1 -> scores [n, 73]: those of all the attributes' values, in a row."""

    def __init__(self):
        super().__init__()
        layers = []
        for i, (a, b) in enumerate(zip(WIDTHS, WIDTHS[1:])):
            layers += [
                nn.Conv2d(a, b, 3 if i else 5, stride=2, padding=1 if i else 2, bias=False),
                nn.BatchNorm2d(b),
                nn.ReLU(),
            ]
        # The 4 x 4 map is flattened, not averaged: half of the attributes are places.
        self.layers = nn.Sequential(
            *layers,
            nn.Flatten(),
            nn.Linear(WIDTHS[-1] * 16, 256, bias=False),
            nn.BatchNorm1d(256),
            nn.ReLU(),
            nn.Linear(256, sum(SIZES)),
        )
        self.hash = None

    def forward(self, x):
        return self.layers(x)

    @torch.no_grad()
    def read(self, images, batch=256):
        """Codes of the pictures (list of ``PIL.Image``, 64 x 64), as in ``Scene.codes()``: uint8 [n, 18], on the CPU."""
        self.eval()
        check_pictures(images)
        for i, image in enumerate(images):
            if image.size != (render.SIZE, render.SIZE):
                raise InputError(
                    f"Picture {i} is {image.size[0]} x {image.size[1]}: the probe reads postcards of "
                    f"{render.SIZE} x {render.SIZE} only, so leave the probe out for other worlds."
                )
        device, found = (
            next(self.parameters()).device,
            [torch.empty(0, len(SIZES), dtype=torch.uint8)],
        )
        for start in range(0, len(images), batch):
            part = np.stack(
                [np.asarray(image.convert("RGB")) for image in images[start : start + batch]]
            )
            scores = self(torch.from_numpy(part).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1)
            found.append(
                torch.stack([s.argmax(1) for s in scores.split(SIZES, 1)], 1).to("cpu", torch.uint8)
            )
        return torch.cat(found)

    def save(self, folder, **notes):
        """Store the weights (float16) and ``notes`` (accuracies, ...) in ``folder``."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / WEIGHTS, halved(self.state_dict()))
        write_json(folder / CARD, {"attributes": _attributes(), **notes})


def _attributes():
    return {name: list(values) for name, values in world.ATTRIBUTES.items()}


def load_probe(folder=FOLDER, device=None):
    """The probe stored in ``folder`` (the bundled one), in evaluation mode, with its content hash in ``.hash``."""
    folder, probe, remedy = Path(folder), Probe(), "restore it, or train the probe anew"
    if read_json(folder / CARD, remedy).get("attributes") != _attributes():
        raise InputError(
            f"{folder / CARD}: the probe reads other attributes than this world has; train it anew."
        )
    try:
        probe.load_state_dict(read_tensors(folder / WEIGHTS, remedy))
    except RuntimeError as error:
        raise InputError(
            f"{folder / WEIGHTS} holds another model than the probe: {remedy}."
        ) from error
    probe.hash = content_hash(folder / WEIGHTS, _attributes())
    return probe.to(device or "cpu").eval()


def blemish(x):
    """Blur and noise of a random strength for each picture, since decoded pictures have both."""
    strength = torch.rand(2, len(x), 1, 1, 1)
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return x + strength[0] * (blurred - x) + 0.2 * strength[1] * torch.randn_like(x)


def train_probe(out, scene_list, pixels, steps=1_000, batch=128, lr=3e-3):
    """Cross-entropy of all 18 attributes. Returns the probe and the log [{step, loss, accuracy}]."""
    from .pretrain import train

    torch.manual_seed(0)
    model, codes = Probe(), torch.tensor([scene.codes() for scene in scene_list])

    def loss(step, rng):
        chosen = rng.sample(range(len(scene_list)), batch)
        scores = model(blemish(pixels[chosen].float() / 127.5 - 1)).split(SIZES, 1)
        truth = codes[chosen]
        value = sum(F.cross_entropy(s, truth[:, i]) for i, s in enumerate(scores)) / len(SIZES)
        right = torch.stack([s.argmax(1) == truth[:, i] for i, s in enumerate(scores)])
        return value, {"accuracy": right.float().mean()}

    log = train(out, "probe", steps, lr, loss, decay=0.05, model=model)
    return model.eval(), log


def accuracies(probe, scene_list):
    """Share of the scenes' renders that the probe reads rightly, by attribute."""
    read = probe.read([render.draw(scene) for scene in scene_list])
    right = (read == torch.tensor([scene.codes() for scene in scene_list])).float().mean(0)
    return {name: round(float(r), 4) for name, r in zip(world.ATTRIBUTES, right)}
