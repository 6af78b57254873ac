"""The page of the demo: a game as pieces of HTML, from the macros in ``demo.html``."""

import base64
import io
import math
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from PIL import Image

from .. import plots
from .state import LAST_ROUND, WINS_AT

templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
templates.trim_blocks = templates.lstrip_blocks = True
templates.finalize = lambda value: f"{value:.1f}" if isinstance(value, float) else value
templates.filters |= dict(percent=lambda x: f"{100 * x:.0f}", thousands="{:,}".format)
templates.globals |= dict(plots=plots, math=math)
PAGE = templates.get_template("demo.html").module


def data_uri(image):
    """A picture's own bytes as an address, photographs made smaller."""
    image = image.convert("RGB")
    if max(image.size) > 256:
        image.thumbnail((256, 256), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def curve(places, count, last=LAST_ROUND):
    """Places by round (SVG) on a logarithmic scale, the first place at the top; in words, too.

    places: {method: its place at each round}, count: pictures there are, last: round of the axis.
    """
    last = max([last, *(len(line) - 1 for line in places.values())])
    x = lambda number: 40 + 198 * number / last
    y = lambda place: 10 + 136 * math.log10(place) / max(1, math.log10(count))
    powers = [10**power for power in range(int(math.log10(count)) + 1)]
    axes = dict(left=40, right=x(last), top=10, won=y(WINS_AT))
    axes["places"] = [(place, y(place)) for place in powers]
    axes["rounds"] = [(number, x(number)) for number in range(0, last + 1, 2)]
    lines = [
        dict(name=name, places=line, points=[(x(i), y(place)) for i, place in enumerate(line)])
        for name, line in places.items()
        if line
    ]
    free = 14  # labels stand apart from one another
    for line in sorted(lines, key=lambda line: line["points"][-1][::-1]):
        line["label_at"] = max(free, line["points"][-1][1])
        free = line["label_at"] + 12.5
    return PAGE.curve(axes, lines)
