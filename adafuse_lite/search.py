"""Search: an index of pictures that is encoded once, and the best of it for a query, exactly, in chunks."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from .build import PICTURES, Parts, encode_pictures
from .errors import InputError
from .files import content_hash, make_folder, read_json, read_tensors, write_json, write_tensors

CHUNK = 100_000  # pictures scored at a time


@dataclass
class PictureIndex:
    """Pictures by name with their features [N, D] (unit length, float32); ``meta`` says which encoder made them."""

    names: list
    features: torch.Tensor
    meta: dict = field(default_factory=dict)

    def search(self, query, k=10):
        """The ``k`` best pictures for each query [n, D]: names (lists of k) and cosines [n, k], best first."""
        scores, places = top(query, self.features, k)
        return [[self.names[i] for i in row] for row in places.tolist()], scores

    def check(self, encoder):
        """Refuse this index unless ``encoder`` made it; returns the index."""
        if self.meta.get("encoder") != encoder.hash:
            raise InputError(
                "The index was made by another encoder: load that one, or index the pictures again."
            )
        return self

    def save(self, folder):
        """Store features (float16) and names in ``folder``, from where ``PictureIndex.load`` reads them."""
        folder = make_folder(folder)
        (folder / "index.json").unlink(missing_ok=True)
        write_tensors(folder / "features.safetensors", {"features": self.features.half().cpu()})
        write_json(folder / "index.json", {"meta": self.meta, "names": self.names})

    @classmethod
    def load(cls, folder):
        """The index in ``folder``; raises ``InputError`` if it is missing, damaged or half written."""
        again, path = "index the pictures again", Path(folder) / "features.safetensors"
        held, tensors = read_json(Path(folder) / "index.json", again), read_tensors(path, again)
        features, names, meta = tensors.get("features"), held.get("names"), held.get("meta")
        if (
            not isinstance(meta, dict)
            or not isinstance(names, list)
            or not all(isinstance(n, str) for n in names)
        ):
            raise InputError(f"{Path(folder) / 'index.json'} is not as it was written: {again}.")
        if features is None or features.ndim != 2 or len(features) != len(names):
            raise InputError(f"{path} does not fit its names: {again}.")
        return cls(names, features.float(), meta)


def top(query, corpus, k=10):
    """Scores and places [n, k] of the best ``k`` pictures, best first, by exact search in chunks of the corpus.

    query [n, D], corpus [N, D]. Pictures of equal score come in any order.
    """
    if query.ndim != 2 or query.shape[1] != corpus.shape[1]:
        raise InputError(
            f"Queries {list(query.shape)} and corpus {list(corpus.shape)} do not fit together; encode both with one encoder."
        )
    query, best, k = query.to(corpus.device), None, min(k, len(corpus))
    for start in range(0, len(corpus), CHUNK):
        part = query.float() @ corpus[start : start + CHUNK].float().T
        values, places = part.topk(min(k, part.shape[1]), dim=1)
        found = (values, places + start)
        best = found if best is None else tuple(torch.cat(pair, dim=1) for pair in zip(best, found))
    values, order = best[0].topk(k, dim=1)
    return values, best[1].gather(1, order)


def index_pictures(benchmark, encoder, out=None):
    """Encode all pictures of a benchmark once, with progress, and keep them in ``out``: killed, it goes on from there.

    An index in ``out`` that this encoder made of these pictures is simply loaded.
    """
    made_of = [
        (name, _stamp(benchmark, name)) for name in benchmark.corpus
    ]  # a part may be made of these alone
    meta = {"encoder": encoder.hash, "pictures": content_hash(made_of)}
    if out and Path(out, "index.json").exists():
        try:
            index = PictureIndex.load(out)
            if index.meta == meta:
                return index
        except InputError:
            pass  # a damaged index is made anew
    parts = Parts(Path(out, "parts") if out else None, (0, 1))
    look = lambda piece: {
        "features": encode_pictures(benchmark, encoder, [name for name, _ in piece])
    }
    features = parts.run("encode pictures", "picture", made_of, PICTURES, encoder.hash, look)[
        "features"
    ]
    index = PictureIndex(list(benchmark.corpus), features.float(), meta)
    if out:
        index.save(out)
        for path in parts.used:
            path.unlink(missing_ok=True)
    return index


def _stamp(benchmark, name):
    """What changes when a picture does: size and time of its file, or the benchmark's version where pictures are in no files."""
    if benchmark.open is not None:
        return [benchmark.name, benchmark.split, benchmark.version]
    found = Path(benchmark.root, name).stat()
    return [found.st_size, found.st_mtime_ns]
