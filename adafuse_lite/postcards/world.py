"""The Postcards world: scenes of 18 attributes, plain dataclasses of words."""

import hashlib
import random
from dataclasses import dataclass, fields
from typing import Literal, get_args

Place = Literal["left", "middle", "right"]
# The attributes that describe a thing, by the attribute that says which thing it is.
DETAILS = {
    "light": ("light_place",),
    "building": ("wall", "roof", "building_place"),
    "tree": ("trees", "tree_place"),
    "vehicle": ("vehicle_color", "vehicle_place"),
    "animal": ("animal_color", "animal_place"),
}


@dataclass(frozen=True)
class Scene:
    """One postcard in words; "none" means that the thing an attribute describes is absent."""

    sky: Literal["blue", "pink", "orange", "grey", "black"]
    weather: Literal["fair", "cloudy", "rainy", "snowy"]
    light: Literal["none", "sun", "moon"]
    light_place: Literal["none", Place]
    ground: Literal["grass", "sand", "snow", "earth"]
    building: Literal["house", "tower", "church", "barn", "windmill"]
    wall: Literal["white", "red", "yellow", "blue", "brown"]
    roof: Literal["red", "black", "green", "purple"]
    building_place: Place
    tree: Literal["none", "pine", "oak", "palm"]
    trees: Literal["none", "one", "two", "three"]
    tree_place: Literal["none", Place]
    vehicle: Literal["none", "car", "bus", "truck", "tractor"]
    vehicle_color: Literal["none", "red", "blue", "yellow", "green", "white"]
    vehicle_place: Literal["none", Place]
    animal: Literal["none", "cow", "horse", "sheep", "duck", "cat"]
    animal_color: Literal["none", "white", "black", "brown", "orange"]
    animal_place: Literal["none", Place]

    def codes(self):
        """The scene as 18 small integers: the index of each value in ``ATTRIBUTES``."""
        return [values.index(getattr(self, name)) for name, values in ATTRIBUTES.items()]

    @classmethod
    def from_codes(cls, codes):
        """The inverse of :meth:`codes`."""
        return cls(*(values[int(c)] for values, c in zip(ATTRIBUTES.values(), codes)))


# Every attribute and the values it may take.
ATTRIBUTES = {f.name: get_args(f.type) for f in fields(Scene)}
PRESENT = {name: [v for v in values if v != "none"] for name, values in ATTRIBUTES.items()}


def thing_of(name):
    """The thing that an attribute belongs to, or None ("roof" -> "building", "sky" -> None)."""
    return next((t for t, details in DETAILS.items() if name == t or name in details), None)


def kind_of(name):
    """What phrases an attribute shares with others: "color", "place", or its own name."""
    if name == "wall" or name.endswith("_color"):
        return "color"
    return "place" if name.endswith("_place") else name


def random_scene(rng):
    """A scene drawn with ``rng`` (a ``random.Random``).

    Things may be absent (light 1 in 4, trees, vehicle and animal 1 in 6 each). A sun never stands
    in a black sky, and trees never stand before the building.
    """
    scene = {name: rng.choice(values) for name, values in PRESENT.items()}
    day, night = ("none", "sun", "sun", "moon"), ("none", "moon", "moon", "moon")
    scene["light"] = rng.choice(night if scene["sky"] == "black" else day)
    scene["tree_place"] = rng.choice([p for p in get_args(Place) if p != scene["building_place"]])
    for thing in ("tree", "vehicle", "animal"):
        if rng.random() < 1 / 6:
            scene[thing] = "none"
    for thing, details in DETAILS.items():
        if scene[thing] == "none":
            scene.update(dict.fromkeys(details, "none"))
    return Scene(**scene)


# Which split a scene belongs to is a property of the scene itself, so splits cannot overlap:
# of 100 buckets of scenes those up to here, from where the one before ends.
BUCKETS = {"models": 60, "train": 72, "validation": 82, "test": 100}


def split_of(scene):
    """The split that a scene belongs to: "models" (encoder, generator, probe) or a benchmark's."""
    bucket = int(hashlib.sha256("|".join(vars(scene).values()).encode()).hexdigest(), 16) % 100
    return next(split for split, end in BUCKETS.items() if bucket < end)


def scenes(split, count, seed=0):
    """``count`` different scenes of one split, the same for the same seed on every machine."""
    rng, different = random.Random(f"{split}/{seed}"), {}
    while len(different) < count:
        scene = random_scene(rng)
        if split_of(scene) == split:
            different[scene] = None
    return list(different)
