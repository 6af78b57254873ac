"""The study behind 05_evaluate: every ablation and control is trained with several seeds, and its ranks are kept.

    python -m adafuse_lite.study                      train what is missing (10 minutes on two cores)
    python -m adafuse_lite.study AdaFuSE PlainMLP     only these variants

What is kept of a training are the ranks of all test dialogues, so every table and interval of the notebook is computed
from them anew. They are stored with the hashes of the banks and the settings that made them.
"""

import argparse
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import nn
from tqdm.auto import tqdm

from .. import fusion
from ..bank import load_bank, read_field
from ..device import pick_device, seed_everything
from ..errors import InputError
from ..files import read_tensors, write_tensors
from ..search import rank_table
from ..train import fit
from .dialogues import STYLES

FOLDER = Path(__file__).parent / "data" / "study"
SEEDS = range(5)
SETTINGS = {"epochs": 15, "batch_size": 256, "lr": 2e-3}  # those of 04_train
SIZES = {"projection_dim": 128, "hidden_dim": 256}
NOISY = 250  # dialogues that were drawn in other ways, too
REDRAWN = ("again1", "again2", "again3", "steps2", "unguided", "overguided", "rawprompt")
SHUFFLED = (0.25, 0.5, 0.75, 1.0)  # share of queries with another query's picture


# --- what is trained --------------------------------------------------------------------------------------------------
class PlainMLP(nn.Module):
    """Two hidden layers on [z_T ; z_D], no gate, no experts, no blend to start from: z = normalise(MLP)."""

    def __init__(self, feature_dim, hidden_dim, dropout=0.2):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 * feature_dim, hidden_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, hidden_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, feature_dim),
        )
        self.logit_scale = nn.Parameter(torch.tensor(50.0).log())

    def forward(self, text, image, round=None):
        text, image = fusion.checked(text, image)
        query = F.normalize(self.layers(torch.cat([text, image], dim=-1)), dim=-1)
        return fusion.Fusion(
            query, text.new_full((len(text), 1), 0.5), text.new_zeros(len(text), 0)
        )


class WideExpert(fusion.AdaFuSE):
    """One expert of ``width`` in place of several: nothing to route, as many parameters."""

    def __init__(self, feature_dim, width, projection_dim, hidden_dim, dropout=0.2):
        super().__init__(feature_dim, projection_dim, hidden_dim, num_experts=1, dropout=dropout)
        self.experts = nn.ModuleList(
            [nn.Sequential(nn.Linear(2 * projection_dim, width), nn.GELU(), nn.Dropout(dropout))]
        )
        self.output = nn.Linear(width, feature_dim)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)


class UniformRouting(fusion.AdaFuSE):
    """All experts count the same for every query: the router's scores are zero and stay so."""

    def __init__(self, feature_dim, **sizes):
        super().__init__(feature_dim, **sizes)
        for weight in self.router[-1].parameters():
            nn.init.zeros_(weight)
        self.router.requires_grad_(False)


def variants(dim):
    """{name: (how to make the model, what it is fed)} for features of width ``dim``."""
    head = lambda **more: lambda: fusion.AdaFuSE(dim, **{**SIZES, **more})
    drawing = {"text": "text", "image": "generated"}
    return {
        "AdaFuSE": (head(), drawing),
        "GateOnly": (lambda: fusion.GateOnly(dim, **SIZES), drawing),
        "ExpertsOnly": (lambda: fusion.ExpertsOnly(dim, **SIZES), drawing),
        "CosineGate": (fusion.CosineGate, drawing),
        "AdaFuSETextText": (head(), {"text": "text", "image": "text"}),
        "AdaFuSETextPrompt": (head(), {"text": "text", "image": "prompt"}),
        "OtherPicture": (head(), {"text": "text", "image": "other"}),
        "PlainMLP": (lambda: PlainMLP(dim, 500), drawing),  # widths: as many parameters as AdaFuSE
        "WideExpert": (lambda: WideExpert(dim, 816, **SIZES), drawing),
        "UniformRouting": (lambda: UniformRouting(dim, **SIZES), drawing),
        "TwoExperts": (head(num_experts=2), drawing),
        "EightExperts": (head(num_experts=8), drawing),
        "PublishedInit": (head(zero_init=False), drawing),
        "AdaFuSEOffsetRemoved": (head(), {"text": "text", "image": "without_offset"}),
    }


# --- what it is trained and tested on ---------------------------------------------------------------------------------
class Banks:
    """The banks of the study, each loaded when it is first asked for. They have two fields more: ``other``, the next
    dialogue's drawing, and ``without_offset``, the own one without what all drawings share (``fusion.OffsetRemoved``)."""

    def __init__(self):
        self._held = {}

    def __getitem__(self, name):
        """ "train", "picking" (a part of validation, to pick an epoch), a style's test bank, or "visdial/CONDITION"."""
        if name not in self._held:
            if name == "picking":
                whole = load_bank("postcards", "visdial", "validation")
                bank = replace(whole, corpus=whole.corpus[:3000])
            elif "/" in name:
                bank = noisy(self["visdial"].limit(NOISY), name.partition("/")[2])
            else:
                bank = load_bank(
                    "postcards", *(("visdial", "train") if name == "train" else (name, "test"))
                )
            bank.other = bank.generated.roll(1, 0)
            offset = fusion.OffsetRemoved.measure(bank if name == "train" else self["train"])
            bank.without_offset = F.normalize(bank.generated - offset, dim=-1)
            self._held[name] = bank
        return self._held[name]


def noisy(bank, condition):
    """``bank`` with drawings of another kind: drawn otherwise (``REDRAWN``), "shuffled P": another query's with probability
    P, "missing": no drawing (a zero vector), or "as drawn"."""
    if condition == "as drawn":
        return replace(bank)
    if condition == "missing":
        return replace(bank, generated=torch.zeros_like(bank.generated))
    if condition.startswith("shuffled "):
        chance = torch.rand(bank.text.shape[:2], generator=torch.Generator().manual_seed(0))
        wrong = (chance < float(condition.split()[1]))[..., None]
        return replace(
            bank, generated=torch.where(wrong, bank.generated.roll(1, 0), bank.generated)
        )
    drawn = load_bank("postcards", "visdial", f"test-{condition}")
    if not torch.equal(drawn.text, bank.text):
        raise InputError(
            f"The drawings test-{condition} belong to other dialogues: build that bank again."
        )
    return replace(bank, generated=drawn.generated, readings=drawn.readings, meta=drawn.meta)


CONDITIONS = tuple(
    f"visdial/{c}" for c in ("as drawn", *REDRAWN, *(f"shuffled {p}" for p in SHUFFLED), "missing")
)


def made_by(banks, name, seed):
    """A hash of the banks, the model's shape, the seed and the settings that decide a training and its ranks, not of the code."""
    banks_made_by = [
        banks[b].meta for b in ("train", "picking", *STYLES, *(f"visdial/{c}" for c in REDRAWN))
    ]
    model = str(variants(banks["train"].text.shape[-1])[name][0]())
    text = json.dumps([banks_made_by, model, name, seed, SETTINGS, SIZES], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# --- training and keeping ---------------------------------------------------------------------------------------------
def train_variant(banks, name, seed, device=None, progress=False):
    """Train one variant -> model, history (as in 04_train: equal settings, epoch picked on validation)."""
    make, fields = variants(banks["train"].text.shape[-1])[name]
    seed_everything(seed)
    model = make()
    history = fit(
        model,
        banks["train"],
        banks["picking"],
        seed=seed,
        device=device,
        progress=progress,
        **fields,
        **SETTINGS,
    )
    return model, history


@torch.no_grad()
def judge(model, banks, name):
    """Ranks of a trained variant on the four test banks and under every noise: {"ranks/visdial": [Q, R], …} of int16; for
    the full head also its "gate/…" [Q, R] and "routing/…" [Q, R, K] in float16."""
    fields, found = variants(banks["train"].text.shape[-1])[name][1], {}
    for place in (*STYLES, *(CONDITIONS if fields["image"] == "generated" else ())):
        bank = banks[place]
        found[f"ranks/{place}"] = rank_table(model, bank, **fields).short()
        if name == "AdaFuSE" and place in STYLES:
            device = next(model.parameters()).device
            rounds = [
                model(
                    read_field(bank, "text")[:, r].to(device),
                    read_field(bank, "generated")[:, r].to(device),
                )
                for r in range(bank.text.shape[1])
            ]
            found[f"gate/{place}"] = torch.stack([f.gate[:, 0] for f in rounds], 1).half().cpu()
            found[f"routing/{place}"] = torch.stack([f.routing for f in rounds], 1).half().cpu()
    return found


def path_of(name, seed):
    return FOLDER / f"{name}-{seed}.safetensors"


def stored(banks, name, seed):
    """What is kept of a training, or None where it is missing or was made by other banks or settings."""
    path = path_of(name, seed)
    if not path.exists():
        return None
    tensors = read_tensors(path, "delete it and run python -m adafuse_lite.study")
    with safe_open(path, "pt") as file:
        known = (file.metadata() or {}).get("made_by")
    return tensors if known == made_by(banks, name, seed) else None


def load_study(banks, name, what="ranks/visdial"):
    """A kept tensor of a variant for each seed: [SEEDS] of rank tables [Q, R] (int64), gates or routings (float32)."""
    found = [stored(banks, name, seed) for seed in SEEDS]
    if None in found:
        raise InputError(
            f"The study lacks {name} with seed {found.index(None)}, or it was made by other banks: "
            f"run python -m adafuse_lite.study {name}."
        )
    return [x[what].long() if x[what].dtype == torch.int16 else x[what].float() for x in found]


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m adafuse_lite.study", description="Train what 05_evaluate reports."
    )
    parser.add_argument("variants", nargs="*", help="only these (default: all that are missing)")
    names = parser.parse_args(arguments).variants
    banks = Banks()
    known = variants(banks["train"].text.shape[-1])
    if unknown := set(names) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    todo = [
        (name, seed)
        for name in names or known
        for seed in SEEDS
        if stored(banks, name, seed) is None
    ]
    device = pick_device()
    print(f"{len(todo)} trainings on {device}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, seed in tqdm(todo, desc="study"):
        model, history = train_variant(banks, name, seed, device)
        about = {
            "made_by": made_by(banks, name, seed),
            "validation": f"{max(history.recall):.4f}",
            "parameters": str(sum(p.numel() for p in model.parameters() if p.requires_grad)),
        }
        write_tensors(path_of(name, seed), judge(model, banks, name), about)


if __name__ == "__main__":
    main()
