"""The feature bank: everything slow is done once, and what follows works on plain tensors.

python -m adafuse_lite.bank --benchmark postcards --style visdial --limit 24 --out DIR      alone or under torchrun
"""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import torch

from .build import build_bank, main
from .errors import InputError
from .files import make_folder, read_json, read_tensors, write_json, write_tensors
from .names import bundled

__all__ = ["FeatureBank", "build_bank", "load_bank"]
FLOATS = ("text", "prompt", "generated", "corpus")  # stored as float16, float32 in memory
SHARED = (
    "text",
    "prompt",
    "generated",
    "readings",
)  # stored as different rows and an index: prompts repeat
TYPES = {
    **dict.fromkeys(FLOATS, torch.float32),
    "target": torch.int64,
    "seeds": torch.int64,
    "cut": torch.bool,
    "prompt_cut": torch.bool,
    "readings": torch.uint8,
}
AGAIN = "build the bank again"


@dataclass
class FeatureBank:
    """Features of Q dialogues at R rounds and of a corpus of N pictures, all D wide and of unit length.

    ``meta`` says what made them: content hashes of encoder, generator, probe, texts, prompts and corpus, and the settings.
    """

    text: torch.Tensor  # [Q, R, D] the dialogue so far
    prompt: torch.Tensor  # [Q, R, D] the prompt that was drawn, as text
    generated: torch.Tensor  # [Q, R, D] the picture drawn from it
    target: torch.Tensor  # [Q] index of the wanted picture in the corpus
    corpus: torch.Tensor  # [N, D]
    cut: torch.Tensor  # [Q, R] bool: the text is longer than the encoder reads
    prompt_cut: torch.Tensor  # [Q, R] bool: the prompt is longer than encoder or generator read
    seeds: torch.Tensor  # [Q] int64: where the drawings' noise starts
    readings: torch.Tensor | None = None  # [Q, R, 18] uint8: what the probe reads in each drawing
    meta: dict = field(default_factory=dict)

    def __post_init__(self):
        self._validate(lambda name: f"bank field {name}")

    def _validate(self, where):
        if self.text.ndim != 3 or self.corpus.ndim != 2:
            raise InputError(
                f"{where('text' if self.text.ndim != 3 else 'corpus')} has the wrong number of axes: {AGAIN}."
            )
        q, r, d = self.text.shape
        shapes = {
            "prompt": (q, r, d),
            "generated": (q, r, d),
            "target": (q,),
            "corpus": (len(self.corpus), d),
            "cut": (q, r),
            "prompt_cut": (q, r),
            "seeds": (q,),
            "readings": (q, r, 18),
        }
        for name, tensor in self._tensors().items():
            if tuple(tensor.shape) != shapes.get(name, (q, r, d)):
                raise InputError(
                    f"{where(name)} has shape {list(tensor.shape)} where {list(shapes[name])} is needed: {AGAIN}."
                )
            if tensor.dtype != TYPES[name]:
                raise InputError(
                    f"{where(name)} holds {tensor.dtype} where {TYPES[name]} is needed: {AGAIN}."
                )
            if name in FLOATS and not tensor.isfinite().all():
                raise InputError(
                    f"{where(name)} holds NaN or infinite numbers: check the model's weights and {AGAIN}."
                )
        if q and not 0 <= int(self.target.min()) <= int(self.target.max()) < len(self.corpus):
            raise InputError(
                f"{where('target')} points outside the corpus of {len(self.corpus)} pictures: {AGAIN}."
            )

    def _tensors(self):
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "meta"}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def check(self, encoder_hash=None, generator_hash=None):
        """Refuse this bank unless the encoder and the generator with these hashes made it; returns the bank."""
        for kind, wanted in (("encoder", encoder_hash), ("generator", generator_hash)):
            if wanted is not None and self.meta.get(kind) != wanted:
                raise InputError(
                    f"The bank was made by {kind} {self.meta.get(kind)}, not by {wanted}: load the {kind} it "
                    f"belongs to, or {AGAIN}."
                )
        return self

    def limit(self, queries):
        """The first dialogues only, over the whole corpus."""
        return replace(
            self,
            **{
                name: tensor[:queries]
                for name, tensor in self._tensors().items()
                if name != "corpus"
            },
        )

    def save(self, folder):
        """Store the bank: a safetensors file for each field (features in float16), and ``bank.json`` with their hashes last."""
        folder, hashes = make_folder(folder), {}
        (folder / "bank.json").unlink(missing_ok=True)
        if self.readings is None:
            (folder / "readings.safetensors").unlink(missing_ok=True)
        for name, tensor in self._tensors().items():
            stored = tensor.cpu().half() if name in FLOATS else tensor.cpu()
            if name in SHARED:
                rows, index = _different(stored)
                hashes[name] = write_tensors(
                    folder / f"{name}.safetensors", {"rows": rows, "index": index}
                )
            else:
                hashes[name] = write_tensors(folder / f"{name}.safetensors", {"values": stored})
        write_json(folder / "bank.json", {**self.meta, "fields": hashes})

    @classmethod
    def load(cls, folder):
        """The bank stored in ``folder``; raises ``InputError`` for a file that is missing, damaged, of the wrong shape or of another bank."""
        folder = Path(folder)
        meta = read_json(folder / "bank.json", f"name the folder of a whole bank, or {AGAIN}")
        wanted = [f.name for f in fields(cls) if f.name not in ("meta", "readings")]
        hashes = meta.pop("fields", None)
        if not isinstance(hashes, dict) or not set(wanted) <= set(hashes) <= set(TYPES):
            raise InputError(f"{folder / 'bank.json'} does not list the fields of a bank: {AGAIN}.")
        tensors = {}
        for name, checksum in hashes.items():
            path = folder / f"{name}.safetensors"
            held = read_tensors(path, AGAIN, str(checksum))  # another bank's file has another one
            try:
                values = held["rows"][held["index"].long()] if name in SHARED else held["values"]
            except (KeyError, IndexError) as error:
                raise InputError(f"{path} lacks rows that a bank needs: {AGAIN}.") from error
            tensors[name] = values.float() if name in FLOATS else values
        bank = cls.__new__(cls)
        bank.__dict__.update({"readings": None, **tensors, "meta": meta})
        bank._validate(lambda name: folder / f"{name}.safetensors")
        return bank


def _different(tensor):
    """The different rows along the last axis, and for each place which of them stands there (int32)."""
    rows = tensor.reshape(-1, tensor.shape[-1])
    _, index = torch.unique(
        rows.view(torch.int16) if rows.dtype == torch.float16 else rows, dim=0, return_inverse=True
    )
    first = torch.full((int(index.max()) + 1 if len(index) else 0,), len(rows)).scatter_reduce(
        0, index, torch.arange(len(rows)), "amin"
    )
    return rows[first], index.reshape(tensor.shape[:-1]).int()


def load_bank(name="postcards", style="visdial", split="test"):
    """A bundled bank by name, style and split ("train", "validation", "test"), or the bank in the folder ``name``."""
    banks = bundled(name, "banks")
    folder = banks / f"{style}-{split}" if banks else Path(name)
    if banks and not folder.is_dir():
        there = ", ".join(sorted(p.name for p in banks.glob("*-*"))) or "none"
        raise InputError(
            f"There is no bundled bank {style}-{split}: choose one of those that are there ({there})."
        )
    return FeatureBank.load(folder)


if __name__ == "__main__":
    main()
