"""Drawing: a scene becomes a picture of 64 x 64 pixels, from the shapes in ``sprites.toml``.

Integer arithmetic only (masks on a 128 x 128 grid, then the mean of 2 x 2 blocks), so a scene gives
the same pixels on every machine.
"""

import tomllib
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from .world import DETAILS

SIZE = 64  # pixels of a picture's side
GRID = 2 * SIZE  # the finer grid on which shapes are decided
Y, X = np.mgrid[0:GRID, 0:GRID]
SPRITES = tomllib.loads(Path(__file__).with_name("sprites.toml").read_text(encoding="utf-8"))
BACK_TO_FRONT = ("weather", "light", "tree", "building", "vehicle", "animal")
CENTRE = {"left": 22, "middle": 64, "right": 106}
# What is painted several times, so much to the right of its centre: trees, and the weather.
REPEATED = {"two": (-9, 9), "three": (-14, 0, 14), "cloudy": (20, 64, 108)}
REPEATED |= {"rainy": range(0, GRID, 16), "snowy": range(0, GRID - 2, 14)}

# Shapes: boolean masks over a grid of coordinates x (to the right) and y (down).
box = lambda x, y, x0, y0, x1, y1: (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
oval = lambda x, y, cx, cy, rx, ry: ((x - cx) * ry) ** 2 + ((y - cy) * rx) ** 2 <= (rx * ry) ** 2


def polygon(x, y, *numbers):
    """A convex polygon: the points that lie on the same side of every edge."""
    corners = list(zip(numbers[::2], numbers[1::2]))
    edges = zip(corners, corners[1:] + corners[:1])
    sides = [(x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) for (x0, y0), (x1, y1) in edges]
    return np.all([s >= 0 for s in sides], axis=0) | np.all([s <= 0 for s in sides], axis=0)


def stroke(x, y, x0, y0, x1, y1, width):
    """A thick line: the points near the segment (squared distances scaled by the length)."""
    dx, dy = x1 - x0, y1 - y0
    length2 = dx * dx + dy * dy
    along = (x - x0) * dx + (y - y0) * dy
    across = (x - x0) * dy - (y - y0) * dx
    return (along >= 0) & (along <= length2) & (4 * across * across <= width * width * length2)


SHAPES = {"box": box, "oval": oval, "polygon": polygon, "stroke": stroke}


@lru_cache(maxsize=4096)
def sprite(thing, kind, place=None, trees=None, **colors):
    """Window, mask and pixels of one thing; with a dark outline, so that white shows on snow."""
    pixels, mask = np.zeros((GRID, GRID, 3), np.uint16), np.zeros((GRID, GRID), bool)
    for dx in REPEATED.get(trees or kind, (0,)):
        for line in SPRITES[thing][kind].strip().splitlines():
            name, *numbers, color = line.split()
            shape = SHAPES[name](X - CENTRE.get(place, 0) - dx, Y, *map(int, numbers))
            if color == "nothing":
                mask = mask & ~shape
            else:
                pixels[shape] = SPRITES["paint"][colors.get(color, color)]
                mask = mask | shape
    if thing not in ("weather", "light"):
        padded, steps = np.pad(mask, 1), (0, 1, 2)
        near = [padded[a : GRID + a, b : GRID + b] for a in steps for b in steps]
        grown = np.any(near, axis=0)
        pixels[grown & ~mask], mask = SPRITES["paint"]["ink"], grown
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    window = np.s_[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    return window, mask[window][..., None], pixels[window]


def pixels(scene):
    """The scene as an array of bytes [64, 64, 3]."""
    canvas = np.empty((GRID, GRID, 3), np.uint16)
    canvas[:60], canvas[60:] = SPRITES["sky"][scene.sky], SPRITES["ground"][scene.ground]
    for thing in BACK_TO_FRONT:
        kind, names = getattr(scene, thing), DETAILS.get(thing, ())
        if kind not in ("none", "fair"):
            details = {n.removeprefix(f"{thing}_"): getattr(scene, n) for n in names}
            window, mask, colors = sprite(thing, kind, **details)
            canvas[window] = np.where(mask, colors, canvas[window])
    return (canvas.reshape(SIZE, 2, SIZE, 2, 3).sum((1, 3)) // 4).astype(np.uint8)


def draw(scene):
    """The scene as a picture (``PIL.Image``, RGB, 64 x 64)."""
    return Image.fromarray(pixels(scene))
