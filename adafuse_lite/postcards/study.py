"""The study behind 05_evaluate: every ablation and control, trained with several seeds.

    python -m adafuse_lite.postcards.study [VARIANT ...]     train what is missing (10 minutes)

What is kept are the ranks of all test dialogues, with a hash of the banks and settings behind them.
"""

import argparse
import hashlib
import json
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

from .. import fusion
from ..bank import load_bank, read_field
from ..device import device_of, pick_device, seed_everything
from ..errors import InputError
from ..files import make_folder, read_all, write_tensors
from ..names import DATA
from ..search import rank_table
from ..train import fit
from .dialogues import STYLES

FOLDER, COMMAND = DATA / "study", "python -m adafuse_lite.postcards.study"
SEEDS = range(5)
SETTINGS = {"epochs": 15, "batch_size": 256, "lr": 2e-3}  # those of 04_train
SIZES = {"projection_dim": 128, "hidden_dim": 256}
NOISY = 250  # dialogues that were drawn in other ways, too
REDRAWN = ("again1", "again2", "again3", "steps2", "unguided", "overguided", "rawprompt")
SHUFFLED = (0.25, 0.5, 0.75, 1.0)  # share of queries with another query's picture
NOISE = ("as drawn", *REDRAWN, *(f"shuffled {share}" for share in SHUFFLED), "missing")
CONDITIONS = tuple(f"visdial/{condition}" for condition in NOISE)


class PlainMLP(nn.Module):
    """Two hidden layers on [z_T ; z_D], no gate, no experts, no blend to start from."""

    def __init__(self, feature_dim, hidden_dim, dropout=0.2):
        super().__init__()
        layers = []
        for width in (2 * feature_dim, hidden_dim):
            layers += [nn.Linear(width, hidden_dim), nn.GELU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden_dim, feature_dim))
        self.logit_scale = nn.Parameter(torch.tensor(50.0).log())

    def forward(self, text, image, round=None):
        text, image = fusion.checked(text, image)
        query = F.normalize(self.layers(torch.cat([text, image], dim=-1)), dim=-1)
        gate = text.new_full((len(text), 1), 0.5)
        return fusion.Fusion(query, gate, text.new_zeros(len(text), 0))


class WideExpert(fusion.AdaFuSE):
    """One expert of ``width`` in place of several: nothing to route, as many parameters."""

    def __init__(self, feature_dim, width, projection_dim, hidden_dim, dropout=0.2):
        super().__init__(feature_dim, projection_dim, hidden_dim, num_experts=1, dropout=dropout)
        wide = nn.Sequential(nn.Linear(2 * projection_dim, width), nn.GELU(), nn.Dropout(dropout))
        self.experts, self.output = nn.ModuleList([wide]), nn.Linear(width, feature_dim)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)


class UniformRouting(fusion.AdaFuSE):
    """All experts count the same for every query: the router's scores are and stay zero."""

    def __init__(self, feature_dim, **sizes):
        super().__init__(feature_dim, **sizes)
        for weight in self.router[-1].parameters():
            nn.init.zeros_(weight)
        self.router.requires_grad_(False)


def variants(dim):
    """{name: (how to make the model, what it is fed)} for features of width ``dim``."""
    head = lambda **more: lambda: fusion.AdaFuSE(dim, **{**SIZES, **more})
    fed = lambda image: {"text": "text", "image": image}
    drawing = fed("generated")
    return {
        "AdaFuSE": (head(), drawing),
        "GateOnly": (lambda: fusion.GateOnly(dim, **SIZES), drawing),
        "ExpertsOnly": (lambda: fusion.ExpertsOnly(dim, **SIZES), drawing),
        "CosineGate": (fusion.CosineGate, drawing),
        "AdaFuSETextText": (head(), fed("text")),
        "AdaFuSETextPrompt": (head(), fed("prompt")),
        "OtherPicture": (head(), fed("other")),
        "PlainMLP": (lambda: PlainMLP(dim, 500), drawing),  # widths: as many parameters as AdaFuSE
        "WideExpert": (lambda: WideExpert(dim, 816, **SIZES), drawing),
        "UniformRouting": (lambda: UniformRouting(dim, **SIZES), drawing),
        "TwoExperts": (head(num_experts=2), drawing),
        "EightExperts": (head(num_experts=8), drawing),
        "PublishedInit": (head(zero_init=False), drawing),
        "AdaFuSEOffsetRemoved": (head(), fed("without_offset")),
    }


class Banks(dict):
    """The banks of the study by name, each loaded when it is first asked for.

    "train", "picking" (of an epoch), a style (its test split) or one of ``CONDITIONS``. They have
    two fields more: ``other``, the next dialogue's drawing, and ``without_offset``, the drawing
    without what all drawings share (``fusion.OffsetRemoved``).
    """

    def __missing__(self, name):
        style, _, condition = name.partition("/")
        if condition:
            bank = noisy(self[style].limit(NOISY), condition)
        elif name == "picking":
            bank = load_bank("postcards", "visdial", "validation")
            bank = replace(bank, corpus=bank.corpus[:3000])
        else:
            split = ("visdial", "train") if name == "train" else (name, "test")
            bank = load_bank("postcards", *split)
        bank.other = bank.generated.roll(1, 0)
        offset = fusion.OffsetRemoved.measure(bank if name == "train" else self["train"])
        bank.without_offset = F.normalize(bank.generated - offset, dim=-1)
        self[name] = bank
        return bank


def noisy(bank, condition):
    """``bank`` drawn otherwise (``REDRAWN``), with no drawings (zeros) or some of other queries."""
    drawings = bank.generated
    if condition == "as drawn":
        return replace(bank)
    if condition == "missing":
        return replace(bank, generated=torch.zeros_like(drawings))
    if condition.startswith("shuffled "):
        chance = torch.rand(drawings.shape[:2], generator=torch.Generator().manual_seed(0))
        wrong = (chance < float(condition.split()[1]))[..., None]
        return replace(bank, generated=torch.where(wrong, drawings.roll(1, 0), drawings))
    drawn = load_bank("postcards", "visdial", f"test-{condition}")
    if not torch.equal(drawn.text, bank.text):
        raise InputError(f"test-{condition} was drawn for other dialogues: build it again.")
    return replace(bank, generated=drawn.generated, readings=drawn.readings, meta=drawn.meta)


def variant(banks, name):
    return variants(banks["train"].text.shape[-1])[name]


def made_by(banks, name, seed):
    """A hash of what decides a training and its ranks: banks, shape, seed, settings; not code."""
    names = ("train", "picking", *STYLES, *(f"visdial/{c}" for c in REDRAWN))
    model = str(variant(banks, name)[0]())
    decisive = [[banks[b].meta for b in names], model, name, seed, SETTINGS, SIZES]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


def train_variant(banks, name, seed, device=None, progress=False):
    """Train one variant -> model, history (as in 04_train, its epoch picked on validation)."""
    make, fields = variant(banks, name)
    seed_everything(seed)
    model, how = make(), {"seed": seed, "device": device, "progress": progress}
    return model, fit(model, banks["train"], banks["picking"], **fields, **how, **SETTINGS)


@torch.no_grad()
def judge(model, banks, name):
    """{"ranks/visdial": [Q, R] int16, ...} on the test banks and, if it sees drawings, under noise.

    For the full head also "gate/..." [Q, R], "routing/..." [Q, R, K] in float16.
    """
    fields = variant(banks, name)[1]
    tested = STYLES + (CONDITIONS if fields["image"] == "generated" else ())
    kept = {f"ranks/{b}": rank_table(model, banks[b], **fields).short() for b in tested}
    for style in STYLES if name == "AdaFuSE" else ():
        pair = [read_field(banks[style], field).to(device_of(model)) for field in fields.values()]
        rounds = [model(text, drawing) for text, drawing in zip(*(x.unbind(1) for x in pair))]
        kept[f"gate/{style}"] = torch.stack([fused.gate[:, 0] for fused in rounds], 1)
        kept[f"routing/{style}"] = torch.stack([fused.routing for fused in rounds], 1)
    return {k: x.half().cpu() if x.is_floating_point() else x for k, x in kept.items()}


def path_of(name, seed):
    return FOLDER / f"{name}-{seed}.safetensors"


def stored(banks, name, seed):
    """What is kept of a training; None where it is missing or made by other banks or settings."""
    path = path_of(name, seed)
    if not path.exists():
        return None
    tensors, about = read_all(path, f"delete it and run {COMMAND}")
    return tensors if about.get("made_by") == made_by(banks, name, seed) else None


def load_study(banks, name, what="ranks/visdial"):
    """A kept tensor of a variant for each seed: rank tables [Q, R] (int64), gates or routings."""
    trainings = [stored(banks, name, seed) for seed in SEEDS]
    if None in trainings:
        lacking = f"{name} with seed {trainings.index(None)}, or it was made by other banks"
        raise InputError(f"The study lacks {lacking}: run {COMMAND} {name}.")
    tensors = [training[what] for training in trainings]
    return [x.long() if x.dtype == torch.int16 else x.float() for x in tensors]


def main(arguments=None):
    parser = argparse.ArgumentParser(prog=COMMAND, description="Train what 05_evaluate reports.")
    parser.add_argument("variants", nargs="*", help="only these (default: all that are missing)")
    names, banks, device = parser.parse_args(arguments).variants, Banks(), pick_device()
    known = variants(banks["train"].text.shape[-1])
    if unknown := set(names) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    runs = [(name, seed) for name in names or known for seed in SEEDS]
    missing = [run for run in runs if stored(banks, *run) is None]
    print(f"{len(missing)} trainings on {device}")
    make_folder(FOLDER)
    for name, seed in tqdm(missing, desc="study"):
        model, history = train_variant(banks, name, seed, device)
        size = sum(p.numel() for p in model.parameters() if p.requires_grad)
        about = {"validation": f"{max(history.recall):.4f}", "parameters": str(size)}
        about["made_by"] = made_by(banks, name, seed)
        write_tensors(path_of(name, seed), judge(model, banks, name), about)


if __name__ == "__main__":
    main()
