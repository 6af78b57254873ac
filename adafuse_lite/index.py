"""An index of pictures that is encoded once and searched for any number of queries."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from .build import PICTURE_PART, Parts, encode_pictures
from .errors import InputError
from .files import content_hash, make_folder, read_json, read_tensors, write_json, write_tensors
from .search import top

AGAIN = "index the pictures again"


@dataclass(repr=False)
class PictureIndex:
    """Pictures by name with their features [N, D] (unit length, float32), and what made them."""

    names: list
    features: torch.Tensor
    meta: dict = field(default_factory=dict)

    def __repr__(self):
        return f"PictureIndex({len(self.names):,} pictures, {self.features.shape[1]} wide)"

    def search(self, query, k=10):
        """The ``k`` best for each query [n, D], best first: names (lists) and cosines [n, k]."""
        scores, places = top(query, self.features, k)
        return [[self.names[i] for i in row] for row in places.tolist()], scores

    def check(self, encoder):
        """This index, or ``InputError`` unless ``encoder`` made it."""
        if self.meta.get("encoder") != encoder.hash:
            raise InputError(f"The index was made by another encoder: load that one, or {AGAIN}.")
        return self

    def save(self, folder):
        """Store features (float16) and names in ``folder``, for ``PictureIndex.load``."""
        folder = make_folder(folder)
        (folder / "index.json").unlink(missing_ok=True)
        write_tensors(folder / "features.safetensors", {"features": self.features.half().cpu()})
        write_json(folder / "index.json", {"meta": self.meta, "names": self.names})

    @classmethod
    def load(cls, folder):
        """The index in ``folder``; ``InputError`` if it is missing, damaged or half written."""
        card, weights = Path(folder) / "index.json", Path(folder) / "features.safetensors"
        held = read_json(card, AGAIN)
        features = read_tensors(weights, AGAIN).get("features")
        names, meta = held.get("names"), held.get("meta")
        listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if not isinstance(meta, dict) or not listed:
            raise InputError(f"{card} is not as it was written: {AGAIN}.")
        if features is None or features.ndim != 2 or len(features) != len(names):
            raise InputError(f"{weights} does not fit its names: {AGAIN}.")
        return cls(names, features.float(), meta)


def index_pictures(benchmark, encoder, out=None):
    """Encode a benchmark's pictures once, with progress -> PictureIndex.

    Broken off, it goes on from what is in ``out``. An index there that this encoder made of these
    pictures is simply loaded.
    """
    items = [(name, _stamp(benchmark, name)) for name in benchmark.corpus]
    meta = {"encoder": encoder.hash, "pictures": content_hash(items)}
    with suppress(InputError):  # a missing or damaged index is made anew
        if out and (index := PictureIndex.load(out)).meta == meta:
            return index
    parts = Parts(Path(out, "parts") if out else None)
    work = lambda piece: {"features": encode_pictures(benchmark, encoder, [n for n, _ in piece])}
    encoded = parts.run("encode pictures", "picture", items, PICTURE_PART, encoder.hash, work)
    index = PictureIndex(list(benchmark.corpus), encoded["features"].float(), meta)
    if out:
        index.save(out)
        parts.remove()
    return index


def _stamp(benchmark, name):
    """What changes when a picture does: its file's size and time, or the benchmark's version."""
    if benchmark.open is not None:
        return [benchmark.name, benchmark.split, benchmark.version]
    file = Path(benchmark.root, name).stat()
    return [file.st_size, file.st_mtime_ns]
