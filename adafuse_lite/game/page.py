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
    ends = [item for item in places.items() if item[1]]
    ends.sort(key=lambda item: (item[1][-1], len(item[1])))
    last = max([last, *(len(curve) - 1 for curve in places.values())])
    x = lambda number: 40 + 198 * number / last
    y = lambda place: 10 + 136 * math.log10(place) / max(1, math.log10(count))
    powers = [10**power for power in range(int(math.log10(count)) + 1)]
    return PAGE.curve(places, ends, last, powers, x, y, WINS_AT)
