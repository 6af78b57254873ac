"""The Postcards world: scenes of 18 attributes and the code that draws them at 64 x 64.

A scene is a plain dataclass of words. Drawing uses integer arithmetic only (masks on a
128 x 128 grid, then the mean of 2 x 2 blocks), so a scene gives the same pixels on every machine.
"""

import hashlib
import random
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from PIL import Image

SIZE = 64  # pixels of a picture's side
GRID = 2 * SIZE  # the finer grid on which shapes are decided
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

    Things may be absent (light 1 in 4, trees, vehicle and animal 1 in 6 each). A sun never stands in a black sky, and
    trees never stand before the building.
    """
    scene = {name: rng.choice(values) for name, values in PRESENT.items()}
    scene["light"] = rng.choice(
        ("none", "moon", "moon", "moon")
        if scene["sky"] == "black"
        else ("none", "sun", "sun", "moon")
    )
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
    """The split that owns this scene: "models" (encoder, generator, probe), "train", "validation" or "test"."""
    bucket = int(hashlib.sha256("|".join(vars(scene).values()).encode()).hexdigest(), 16) % 100
    return next(name for name, buckets in SPLITS.items() if bucket in buckets)


def scenes(split, count, seed=0):
    """``count`` different scenes of one split, the same for the same seed on every machine."""
    rng, found = random.Random(f"{split}/{seed}"), {}
    while len(found) < count:
        scene = random_scene(rng)
        if split_of(scene) == split:
            found[scene] = None
    return list(found)


# ---------------------------------------------------------------------------------------------------------------------
# Shapes: boolean masks on the grid, in grid units, x to the right and y down.
Y, X = np.mgrid[0:GRID, 0:GRID]


def box(x0, y0, x1, y1):
    return (X >= x0) & (X < x1) & (Y >= y0) & (Y < y1)


def oval(cx, cy, rx, ry):
    return (X - cx) ** 2 * ry * ry + (Y - cy) ** 2 * rx * rx <= rx * rx * ry * ry


def disc(cx, cy, r):
    return oval(cx, cy, r, r)


def polygon(*points):
    """A convex polygon: the points that lie on the same side of every edge."""
    sides = [
        (x1 - x0) * (Y - y0) - (y1 - y0) * (X - x0)
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1])
    ]
    return np.all([s >= 0 for s in sides], axis=0) | np.all([s <= 0 for s in sides], axis=0)


def stroke(x0, y0, x1, y1, width):
    """A thick line: the points near the segment, by integer arithmetic (squared distances scaled by the length)."""
    dx, dy = x1 - x0, y1 - y0
    length2 = dx * dx + dy * dy
    along = (X - x0) * dx + (Y - y0) * dy
    across = (X - x0) * dy - (Y - y0) * dx
    return (along >= 0) & (along <= length2) & (4 * across * across <= width * width * length2)


# Bold flat colours that stay apart for the encoder and for a person.
SKY = {
    "blue": (120, 190, 250),
    "pink": (250, 170, 200),
    "orange": (250, 150, 60),
    "grey": (150, 155, 165),
    "black": (20, 22, 50),
}
GROUND = {
    "grass": (90, 180, 70),
    "sand": (240, 215, 130),
    "snow": (240, 245, 250),
    "earth": (140, 95, 60),
}
PAINT = {
    "white": (250, 250, 250),
    "red": (215, 35, 40),
    "yellow": (250, 210, 30),
    "blue": (40, 80, 215),
    "brown": (130, 80, 40),
    "black": (25, 25, 30),
    "green": (30, 140, 60),
    "purple": (140, 50, 170),
    "orange": (245, 130, 25),
}
INK, GLASS, LEAF, PINE, TRUNK = (
    (35, 30, 40),
    (190, 230, 245),
    (70, 200, 60),
    (15, 95, 60),
    (110, 70, 35),
)
CENTRE = {"left": 22, "middle": 64, "right": 106}


def light(kind, x):
    if kind == "sun":
        rays = [
            stroke(x - 14 * a, 15 - 14 * b, x + 14 * a, 15 + 14 * b, 3) for a, b in ((1, 0), (0, 1))
        ]
        return [(rays[0] | rays[1], (255, 240, 60)), (disc(x, 15, 9), (255, 240, 60))]
    return [(disc(x, 15, 10) & ~disc(x + 6, 12, 8), (250, 250, 225))]


def building(kind, wall, roof, x):
    wall, roof = PAINT[wall], PAINT[roof]
    if kind == "house":
        return [
            (box(x - 17, 62, x + 17, 86), wall),
            (polygon((x - 21, 62), (x, 44), (x + 21, 62)), roof),
            (box(x - 4, 72, x + 4, 86), INK),
            (box(x - 14, 66, x - 7, 73), GLASS),
            (box(x + 7, 66, x + 14, 73), GLASS),
        ]
    if kind == "tower":
        return [
            (box(x - 9, 44, x + 9, 86), wall),
            (polygon((x - 13, 44), (x, 26), (x + 13, 44)), roof),
            (box(x - 3, 50, x + 3, 58), GLASS),
            (box(x - 3, 62, x + 3, 70), GLASS),
            (box(x - 3, 76, x + 3, 86), INK),
        ]
    if kind == "church":
        return [
            (box(x - 8, 64, x + 19, 86), wall),
            (polygon((x - 8, 64), (x - 4, 52), (x + 15, 52), (x + 21, 64)), roof),
            (box(x - 19, 52, x - 7, 86), wall),
            (polygon((x - 20, 52), (x - 13, 32), (x - 6, 52)), roof),
            (box(x - 14, 22, x - 12, 33) | box(x - 17, 25, x - 9, 27), INK),
            (disc(x - 13, 60, 4), GLASS),
            (box(x + 2, 69, x + 6, 79) | box(x + 10, 69, x + 14, 79), GLASS),
        ]
    if kind == "barn":
        return [
            (box(x - 20, 66, x + 20, 86), wall),
            (polygon((x - 22, 66), (x - 15, 52), (x + 15, 52), (x + 22, 66)), roof),
            (box(x - 9, 70, x + 9, 86), INK),
            (stroke(x - 8, 71, x + 8, 85, 3) | stroke(x + 8, 71, x - 8, 85, 3), PAINT["white"]),
        ]
    blades = [
        stroke(x - 17, 46 - 17, x + 17, 46 + 17, 5),
        stroke(x + 17, 46 - 17, x - 17, 46 + 17, 5),
    ]
    return [
        (polygon((x - 8, 54), (x + 8, 54), (x + 14, 86), (x - 14, 86)), wall),
        (polygon((x - 10, 54), (x - 5, 40), (x + 5, 40), (x + 10, 54)), roof),
        (box(x - 3, 76, x + 4, 86), INK),
        (blades[0] | blades[1], (225, 205, 165)),
        (disc(x, 46, 3), INK),
    ]


def tree(kind, number, x):
    parts = []
    for dx in {"one": (0,), "two": (-9, 9), "three": (-14, 0, 14)}[number]:
        c = x + dx
        if kind == "pine":
            parts += [
                (box(c - 1, 80, c + 2, 86), TRUNK),
                (polygon((c - 7, 80), (c, 48), (c + 7, 80)), PINE),
            ]
        elif kind == "oak":
            parts += [(box(c - 2, 72, c + 2, 86), TRUNK), (disc(c, 66, 8), LEAF)]
        else:
            fronds = [
                stroke(c, 54, c + a, 54 + b, 4)
                for a, b in ((-8, -5), (8, -5), (-8, 5), (8, 5), (0, -8))
            ]
            parts += [(box(c - 1, 54, c + 2, 86), TRUNK), (np.any(fronds, axis=0), (120, 170, 20))]
    return parts


def vehicle(kind, color, x):
    color, wheel = (
        PAINT[color],
        lambda cx, cy, r: [(disc(cx, cy, r), INK), (disc(cx, cy, r - 2), (170, 170, 175))],
    )
    if kind == "car":
        return (
            [
                (polygon((x - 11, 94), (x - 6, 86), (x + 7, 86), (x + 12, 94)), color),
                (box(x - 17, 93, x + 18, 101), color),
                (box(x - 6, 88, x, 93) | box(x + 2, 88, x + 7, 93), GLASS),
            ]
            + wheel(x - 10, 101, 4)
            + wheel(x + 11, 101, 4)
        )
    if kind == "bus":
        return (
            [
                (box(x - 20, 84, x + 20, 101), color),
                (
                    np.any([box(x + a, 87, x + a + 6, 93) for a in (-18, -10, -2, 6, 13)], axis=0),
                    GLASS,
                ),
            ]
            + wheel(x - 12, 101, 4)
            + wheel(x + 12, 101, 4)
        )
    if kind == "truck":
        return (
            [
                (box(x - 9, 83, x + 20, 99), color),
                (box(x - 19, 90, x - 10, 101), (120, 125, 135)),
                (box(x - 18, 91, x - 13, 95), GLASS),
                (box(x - 10, 98, x + 20, 101), INK),
            ]
            + wheel(x - 14, 101, 4)
            + wheel(x + 6, 101, 4)
            + wheel(x + 15, 101, 4)
        )
    return (
        [
            (box(x - 15, 91, x + 6, 98), color),
            (box(x - 1, 82, x + 10, 92), color),
            (box(x + 1, 84, x + 8, 90), GLASS),
            (box(x - 11, 83, x - 9, 91), INK),
        ]
        + wheel(x + 7, 98, 7)
        + wheel(x - 11, 101, 4)
    )


def animal(kind, color, x):
    color, legs = (
        PAINT[color],
        lambda y, *at: np.any([box(x + a, y, x + a + 3, 124) for a in at], axis=0),
    )
    if kind == "cow":
        return [
            (legs(117, -10, -5, 5, 10), color),
            (box(x - 11, 108, x + 14, 118), color),
            (box(x - 19, 105, x - 10, 113), color),
            (
                stroke(x - 19, 102, x - 17, 106, 2) | stroke(x - 10, 102, x - 12, 106, 2),
                (220, 210, 170),
            ),
            (oval(x + 6, 112, 5, 3), (150, 140, 145)),
            (box(x - 19, 110, x - 14, 113), (240, 170, 175)),
        ]
    if kind == "horse":
        return [
            (legs(112, -8, -4, 6, 10), color),
            (oval(x + 2, 110, 11, 5), color),
            (polygon((x - 10, 110), (x - 3, 108), (x - 9, 97), (x - 13, 98)), color),
            (oval(x - 14, 99, 6, 3), color),
            (stroke(x + 12, 107, x + 17, 118, 4), INK),
            (stroke(x - 9, 97, x - 4, 106, 3), INK),
        ]
    if kind == "sheep":
        wool = [
            disc(x + a, 111 + b, 6)
            for a, b in ((-6, 0), (0, -3), (7, -1), (9, 4), (-2, 4), (3, 4), (-7, 4))
        ]
        return [
            (legs(117, -6, 6), INK),
            (np.any(wool, axis=0), color),
            (oval(x - 13, 110, 4, 5), (90, 80, 85)),
        ]
    if kind == "duck":
        return [
            (oval(x + 3, 117, 12, 7), color),
            (polygon((x + 9, 114), (x + 18, 107), (x + 16, 117)), color),
            (disc(x - 8, 107, 5), color),
            (box(x - 10, 109, x - 4, 117), color),
            (polygon((x - 12, 106), (x - 18, 109), (x - 12, 110)), (250, 160, 0)),
        ]
    ears = polygon((x - 11, 104), (x - 10, 96), (x - 5, 102)) | polygon(
        (x + 1, 104), (x, 96), (x - 5, 102)
    )
    return [
        (polygon((x - 9, 124), (x - 5, 110), (x + 3, 110), (x + 9, 124)), color),
        (disc(x - 5, 106, 7), color),
        (ears, color),
        (stroke(x + 7, 122, x + 14, 118, 4) | stroke(x + 14, 119, x + 14, 106, 4), color),
        (disc(x - 8, 105, 1) | disc(x - 2, 105, 1), (60, 200, 90)),
    ]


def weather(kind):
    if kind == "cloudy":
        puffs = [
            oval(cx + a, 33 + b, 9, 6)
            for cx in (20, 64, 108)
            for a, b in ((-9, 2), (0, -3), (9, 2))
        ]
        return [(np.any(puffs, axis=0), (225, 228, 235))]
    if kind == "rainy":
        drops = [
            stroke(x + 4, y, x, y + 9, 3)
            for y in (1, 16, 31, 46)
            for x in range(4 + y % 7, GRID, 16)
        ]
        return [(np.any(drops, axis=0), (50, 90, 200))]
    if kind == "snowy":
        flakes = [
            disc(x, y, 2)
            for i, y in enumerate((4, 15, 26, 37, 48))
            for x in range(5 + 7 * (i % 2), GRID, 14)
        ]
        return [(np.any(flakes, axis=0), (255, 255, 255))]
    return []


PARTS = {f.__name__: f for f in (light, building, tree, vehicle, animal, weather)}


@lru_cache(maxsize=4096)
def _sprite(part, *arguments):
    """Window, mask and pixels of one thing, with a dark outline so that white things show on snow."""
    pixels, mask = np.zeros((GRID, GRID, 3), np.uint16), np.zeros((GRID, GRID), bool)
    layers = PARTS[part](*arguments)
    if not layers:
        return None
    for shape, color in layers:
        pixels[shape], mask = color, mask | shape
    if part not in ("weather", "light"):
        padded = np.pad(mask, 1)
        grown = np.any(
            [
                padded[1 + a : GRID + 1 + a, 1 + b : GRID + 1 + b]
                for a in (-1, 0, 1)
                for b in (-1, 0, 1)
            ],
            axis=0,
        )
        pixels[grown & ~mask], mask = INK, grown
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    window = np.s_[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    return window, mask[window][..., None], pixels[window]


def pixels(scene):
    """The scene as an array of bytes [64, 64, 3]."""
    canvas = np.empty((GRID, GRID, 3), np.uint16)
    canvas[:60], canvas[60:] = SKY[scene.sky], GROUND[scene.ground]
    things = [("weather", scene.weather)]
    if scene.light != "none":
        things.append(("light", scene.light, CENTRE[scene.light_place]))
    if scene.tree != "none":
        things.append(("tree", scene.tree, scene.trees, CENTRE[scene.tree_place]))
    things.append(
        ("building", scene.building, scene.wall, scene.roof, CENTRE[scene.building_place])
    )
    if scene.vehicle != "none":
        things.append(("vehicle", scene.vehicle, scene.vehicle_color, CENTRE[scene.vehicle_place]))
    if scene.animal != "none":
        things.append(("animal", scene.animal, scene.animal_color, CENTRE[scene.animal_place]))
    for sprite in filter(None, (_sprite(*thing) for thing in things)):
        window, mask, colors = sprite
        canvas[window] = np.where(mask, colors, canvas[window])
    return (canvas.reshape(SIZE, 2, SIZE, 2, 3).sum((1, 3)) // 4).astype(np.uint8)


def draw(scene):
    """The scene as a picture (``PIL.Image``, RGB, 64 x 64)."""
    return Image.fromarray(pixels(scene))
