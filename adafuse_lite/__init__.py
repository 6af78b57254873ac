"""ADaFuSE, taught and used: search pictures with a dialogue and a drawing of it.

All public names are here: ``from adafuse_lite import AdaFuSE``. What one needs is imported when it
is first asked for, so importing the package costs next to nothing.
"""

import os as _os
from importlib import import_module as _import_module

# Threads that wait for one another asleep, not spinning: beside other programs PyTorch is several
# times faster so, and no slower alone. It counts if PyTorch was not imported before.
_os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

_ROOMS = {
    "benchmark": "Benchmark Dialogue",
    "sources": "load_benchmark write_benchmark photos pairs",
    "reformulate": "rewrite",
    "encoders": "load_encoder",
    "generators": "load_generator",
    "drawings": "Drawings",
    "bank": "FeatureBank load_bank",
    "build": "build_bank",
    "fusion": "Fusion AdaFuSE GateOnly ExpertsOnly TextOnly ImageOnly FixedWeight DAR CosineGate "
    "StandardisedSum OffsetRemoved blend",
    "train": "fit tune_fixed_weight",
    "device": "pick_device seed_everything",
    "search": "ranks rank_table top",
    "index": "PictureIndex index_pictures",
    "metrics": "hits_at_k recall_at_k mrr bri degradation bootstrap paired_difference verdict",
    "errors": "InputError",
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names.split()}
__all__ = sorted(_ROOM_OF)


def __getattr__(name):
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_import_module(f".{_ROOM_OF[name]}", __name__), name)
    globals()[name] = value  # asked for once
    return value


def __dir__():
    return sorted({*globals(), *__all__})
