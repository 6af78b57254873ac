"""The feature bank: everything slow is done once, and what follows works on plain tensors."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import torch

from ..checks import all_finite, first_not_finite, refusing
from ..errors import InputError
from ..files import make_folder, read_json, read_tensors, write_json, write_tensors
from ..names import DEFAULT, bundled

FLOATS = ("text", "prompt", "generated", "corpus")  # stored as float16, float32 in memory
TYPES = {
    **dict.fromkeys(FLOATS, torch.float32),
    **dict.fromkeys(("target", "seeds"), torch.int64),
    **dict.fromkeys(("cut", "prompt_cut"), torch.bool),
    "readings": torch.uint8,
}
REPEATED = ("text", "prompt", "generated", "readings")  # stored as different rows and an index
AGAIN = "build the bank again"


@dataclass(repr=False)
class FeatureBank:
    """Features of Q dialogues at R rounds and of a corpus of N pictures, D wide, of unit length.

    ``meta`` says what made them: content hashes of encoder, generator, probe, texts, prompts and
    corpus, and the settings.
    """

    text: torch.Tensor  # [Q, R, D] the dialogue so far
    prompt: torch.Tensor  # [Q, R, D] the prompt that was drawn, as text
    generated: torch.Tensor  # [Q, R, D] the picture drawn from it
    target: torch.Tensor  # [Q] index of the wanted picture in the corpus
    corpus: torch.Tensor  # [N, D]
    cut: torch.Tensor  # [Q, R] bool: the text is longer than the encoder reads
    prompt_cut: torch.Tensor  # [Q, R] bool: the prompt is longer than encoder or generator read
    seeds: torch.Tensor  # [Q] int64: where the drawings' noise starts
    readings: torch.Tensor | None = None  # [Q, R, A] uint8: what the probe reads in each drawing
    meta: dict = field(default_factory=dict)

    def __post_init__(self):
        for name, axes in (("text", 3), ("corpus", 2)):
            if getattr(self, name).ndim != axes:
                raise InputError(f"bank field {name} has the wrong number of axes: {AGAIN}.")
        q, r, d = self.text.shape
        shapes = {"target": [q], "seeds": [q], "corpus": [len(self.corpus), d]}
        shapes |= {"cut": [q, r], "prompt_cut": [q, r]}
        if self.readings is not None:
            shapes["readings"] = [q, r, self.readings.shape[-1]]
        for name, x in self._tensors().items():
            wanted = shapes.get(name, [q, r, d])
            if list(x.shape) != wanted:
                wrong = f"has shape {list(x.shape)} where {wanted} is needed"
            elif x.dtype != TYPES[name]:
                wrong = f"holds {x.dtype} where {TYPES[name]} is needed"
            elif name in FLOATS and not all_finite(x):
                wrong = "holds NaN or infinite numbers: check the model's weights"
            elif name == "target" and q and not 0 <= x.min() <= x.max() < len(self.corpus):
                wrong = f"points outside the corpus of {len(self.corpus)} pictures"
            else:
                continue
            raise InputError(f"bank field {name} {wrong}: {AGAIN}.")

    def __repr__(self):
        q, r, d = self.text.shape
        name = "/".join(str(self.meta.get(k, "?")) for k in ("benchmark", "style", "split"))
        size = f"{q:,} dialogues x {r} rounds, {len(self.corpus):,} pictures, {d} wide"
        return f"FeatureBank({name}: {size})"

    def _tensors(self):
        held = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "meta"}
        return {name: x for name, x in held.items() if x is not None}

    def check(self, encoder_hash=None, generator_hash=None):
        """This bank, or ``InputError`` unless the models with these hashes made it."""
        for kind, wanted in (("encoder", encoder_hash), ("generator", generator_hash)):
            if wanted is not None and (made_by := self.meta.get(kind)) != wanted:
                fault = f"The bank was made by {kind} {made_by}, not by {wanted}"
                raise InputError(f"{fault}: load the {kind} it belongs to, or {AGAIN}.")
        return self

    def limit(self, queries):
        """The first dialogues only, over the whole corpus."""
        few = {name: x[:queries] for name, x in self._tensors().items() if name != "corpus"}
        return replace(self, **few)

    def save(self, folder):
        """Store the bank: a safetensors file a field (features in float16), ``bank.json`` last."""
        folder, hashes = make_folder(folder), {}
        (folder / "bank.json").unlink(missing_ok=True)
        if self.readings is None:
            (folder / "readings.safetensors").unlink(missing_ok=True)
        for name, x in self._tensors().items():
            x = x.cpu().half() if name in FLOATS else x.cpu()
            held = _different_rows(x) if name in REPEATED else {"values": x}
            hashes[name] = write_tensors(folder / f"{name}.safetensors", held)
        write_json(folder / "bank.json", {**self.meta, "fields": hashes})

    @classmethod
    def load(cls, folder):
        """The bank in ``folder``; ``InputError`` for a missing, damaged, unfit or foreign file."""
        folder = Path(folder)
        meta = read_json(folder / "bank.json", f"name the folder of a whole bank, or {AGAIN}")
        wanted = {f.name for f in fields(cls)} - {"meta", "readings"}
        hashes = meta.pop("fields", None)
        if not isinstance(hashes, dict) or not wanted <= set(hashes) <= set(TYPES):
            raise InputError(f"{folder / 'bank.json'} does not list the fields of a bank: {AGAIN}.")
        tensors = {name: _read(folder, name, str(held)) for name, held in hashes.items()}
        try:
            return cls(**tensors, meta=meta)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from error


def _read(folder, name, checksum):
    """A field of a stored bank. What banks side by side have in common may lie in ../shared."""
    path = folder / f"{name}.safetensors"
    shared = {file.stem: file for file in (folder.parent / "shared").glob("*.safetensors")}
    path = path if path.exists() else shared.get(checksum, path)
    held = read_tensors(path, AGAIN, checksum)  # another bank's file has another one
    with refusing((KeyError, IndexError), f"{path} lacks rows that a bank needs", AGAIN):
        x = held["rows"][held["index"].long()] if name in REPEATED else held["values"]
    return x.float() if name in FLOATS else x


def _different_rows(x):
    """The different rows along the last axis, and for each place which of them stands there."""
    rows = x.reshape(-1, x.shape[-1])
    bits = rows.view(torch.int16) if rows.dtype == torch.float16 else rows
    different, index = bits.unique(dim=0, return_inverse=True)
    places, first = torch.arange(len(rows)), torch.full((len(different),), len(rows))
    first = first.scatter_reduce(0, index, places, "amin")
    return {"rows": rows[first], "index": index.reshape(x.shape[:-1]).int()}


def load_bank(name=DEFAULT, style="visdial", split="test"):
    """A bundled bank by name, style and split ("train", "validation", "test"), or a folder's."""
    banks = bundled(name, "banks")
    folder = banks / f"{style}-{split}" if banks else Path(name).expanduser()
    if banks and not folder.is_dir():
        there = ", ".join(sorted(p.name for p in banks.glob("*-*"))) or "none"
        raise InputError(f"There is no bundled bank {style}-{split}: choose one of {there}.")
    return FeatureBank.load(folder)


def read_field(bank, name):
    """A bank's features ``name`` as float32 ([Q, R, D], or the corpus [N, D]), all finite."""
    x = getattr(bank, name, None)
    if not isinstance(x, torch.Tensor) or x.ndim != (2 if name == "corpus" else 3):
        raise InputError(f"The bank has no features {name!r}; choose one of {', '.join(FLOATS)}.")
    if not all_finite(x):
        entry = first_not_finite(x)
        where = f"picture {entry[0]}" if name == "corpus" else f"query {entry[0]}, round {entry[1]}"
        raise InputError(f"The bank's {name} features of {where} are not finite: {AGAIN}.")
    return x.float()
