"""The Postcards world: scenes of 18 attributes, plain dataclasses of words."""

import hashlib
import random
from dataclasses import dataclass, fields

PLACES = ("left", "middle", "right")

# Every attribute and the values it may take. "none" means that the thing it describes is absent.
ATTRIBUTES = {
    "sky": ("blue", "pink", "orange", "grey", "black"),
    "weather": ("fair", "cloudy", "rainy", "snowy"),
    "light": ("none", "sun", "moon"),
    "light_place": ("none",) + PLACES,
    "ground": ("grass", "sand", "snow", "earth"),
    "building": ("house", "tower", "church", "barn", "windmill"),
    "wall": ("white", "red", "yellow", "blue", "brown"),
    "roof": ("red", "black", "green", "purple"),
    "building_place": PLACES,
    "tree": ("none", "pine", "oak", "palm"),
    "trees": ("none", "one", "two", "three"),
    "tree_place": ("none",) + PLACES,
    "vehicle": ("none", "car", "bus", "truck", "tractor"),
    "vehicle_color": ("none", "red", "blue", "yellow", "green", "white"),
    "vehicle_place": ("none",) + PLACES,
    "animal": ("none", "cow", "horse", "sheep", "duck", "cat"),
    "animal_color": ("none", "white", "black", "brown", "orange"),
    "animal_place": ("none",) + PLACES,
}
# Attributes that describe a thing, by the attribute that says which thing it is.
DETAILS = {
    "light": ("light_place",),
    "building": ("wall", "roof", "building_place"),
    "tree": ("trees", "tree_place"),
    "vehicle": ("vehicle_color", "vehicle_place"),
    "animal": ("animal_color", "animal_place"),
}


def thing_of(name):
    """The thing that an attribute belongs to, or None ("roof" -> "building", "sky" -> None)."""
    return next((t for t, details in DETAILS.items() if name == t or name in details), None)


def kind_of(name):
    """What phrases an attribute shares with others: "color", "place", or its own name."""
    if name == "wall" or name.endswith("_color"):
        return "color"
    return "place" if name.endswith("_place") else name


@dataclass(frozen=True)
class Scene:
    """One postcard in words; each field holds one of ``ATTRIBUTES[field]``."""

    sky: str
    weather: str
    light: str
    light_place: str
    ground: str
    building: str
    wall: str
    roof: str
    building_place: str
    tree: str
    trees: str
    tree_place: str
    vehicle: str
    vehicle_color: str
    vehicle_place: str
    animal: str
    animal_color: str
    animal_place: str

    def codes(self):
        """The scene as 18 small integers: the index of each value in ``ATTRIBUTES``."""
        return [ATTRIBUTES[f.name].index(getattr(self, f.name)) for f in fields(self)]

    @classmethod
    def from_codes(cls, codes):
        """The inverse of :meth:`codes`."""
        return cls(*(values[int(c)] for values, c in zip(ATTRIBUTES.values(), codes)))


PRESENT = {name: [v for v in values if v != "none"] for name, values in ATTRIBUTES.items()}


def random_scene(rng):
    """A scene drawn with ``rng`` (a ``random.Random``).

    Things may be absent (light 1 in 4, trees, vehicle and animal 1 in 6 each). A sun never stands
    in a black sky, and trees never stand before the building.
    """
    scene = {name: rng.choice(values) for name, values in PRESENT.items()}
    day, night = ("none", "sun", "sun", "moon"), ("none", "moon", "moon", "moon")
    scene["light"] = rng.choice(night if scene["sky"] == "black" else day)
    scene["tree_place"] = rng.choice([p for p in PLACES if p != scene["building_place"]])
    for thing in ("tree", "vehicle", "animal"):
        if rng.random() < 1 / 6:
            scene[thing] = "none"
    for thing, details in DETAILS.items():
        if scene[thing] == "none":
            scene.update(dict.fromkeys(details, "none"))
    return Scene(**scene)


# Which split a scene belongs to is a property of the scene itself, so splits cannot overlap.
SPLITS = {
    "models": range(0, 60),
    "train": range(60, 72),
    "validation": range(72, 82),
    "test": range(82, 100),
}


def split_of(scene):
    """The split that a scene belongs to: "models" (encoder, generator, probe) or a benchmark's."""
    bucket = int(hashlib.sha256("|".join(vars(scene).values()).encode()).hexdigest(), 16) % 100
    return next(name for name, buckets in SPLITS.items() if bucket in buckets)


def scenes(split, count, seed=0):
    """``count`` different scenes of one split, the same for the same seed on every machine."""
    rng, different = random.Random(f"{split}/{seed}"), {}
    while len(different) < count:
        scene = random_scene(rng)
        if split_of(scene) == split:
            different[scene] = None
    return list(different)
