"""The benchmark of the Postcards world: which scenes and dialogues belong to which split."""

import random
from functools import lru_cache

from ..benchmark import Benchmark, Dialogue
from ..errors import InputError
from . import dialogues, render, world

# --- Postcards --------------------------------------------------------------------------------------------------------
# Dialogues of a split in the style that is trained on, and in the others; pictures to search.
SPLITS = {"train": (3_000, 0, 3_000), "validation": (300, 0, 10_000), "test": (1_000, 500, 10_000)}


# Test: chosen when models, dialogues and settings were final. Two styles had been calibrated while looking at the texts of
# an earlier test set, which is not used any more.
SEEDS = {"train": 1, "validation": 2, "test": 20_261_125}


@lru_cache(maxsize=4)
def _scenes(split):
    return world.scenes(split, SPLITS[split][2], SEEDS[split])


def load_postcards(style, split):
    """The Postcards world. Styles other than "visdial" have a test split only, as nothing is trained on them."""
    if style not in dialogues.STYLES or split not in SPLITS:
        raise InputError(
            f"Postcards has no style {style!r} with a split {split!r}; styles are {', '.join(dialogues.STYLES)}, "
            f"splits {', '.join(SPLITS)}."
        )
    own, other, _ = SPLITS[split]
    count = own if style == "visdial" else other
    if not count:
        raise InputError(
            f"Postcards has the style {style!r} in the test split only; use split='test' or style='visdial'."
        )
    scenes = _scenes(split)
    names = [f"postcards/{split}/{i:06}.png" for i in range(len(scenes))]
    talks = [
        dialogues.dialogue(scene, style, random.Random(f"{split}/{style}/{SEEDS[split]}/{i}"))
        for i, scene in enumerate(scenes[:count])
    ]
    by_name = dict(zip(names, scenes))
    return Benchmark(
        "postcards",
        style,
        split,
        [Dialogue(n, tuple(entries)) for n, (entries, _) in zip(names, talks)],
        names,
        open=lambda name: render.draw(by_name[name]),
        scenes=scenes,
        stated=[facts for _, facts in talks],
    )
