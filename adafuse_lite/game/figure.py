"""A game as a figure, for those who see no widgets."""

import textwrap

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.transforms import Affine2D

from .. import plots
from .state import WINS_AT

WIDTH, ROW = 11.56, 1.5  # inches; all that is drawn has its place in inches from the upper left
INK, QUIET, LIGHT, WON = "#1f2328", "#57606a", "#e3e8ed", "#05603a"


def _inches(figure):
    return Affine2D().scale(1, -1).translate(0, figure.get_figheight()) + figure.dpi_scale_trans


def _axes(figure, x, y, width, height):
    high = figure.get_figheight()
    return figure.add_axes((x / WIDTH, 1 - (y + height) / high, width / WIDTH, height / high))


def _write(figure, text, x, y, **how):
    how = {"va": "center", "color": INK, "fontsize": 10, "transform": _inches(figure)} | how
    figure.text(x, y, text, **how)


def _bubble(figure, text, x, y, face, edge, align="left"):
    shape = dict(boxstyle="round,pad=0.45,rounding_size=0.5", facecolor=face, edgecolor=edge)
    text = "\n".join(textwrap.wrap(text, 36))
    _write(figure, text, x, y, ha=align, fontsize=9.5, linespacing=1.25, bbox=shape)


def _show(figure, image, x, y, size, frame=None):
    ax = _axes(figure, x, y, size, size)
    ax.imshow(image, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set(visible=frame is not None, color=frame, linewidth=3.5)


def _curves(figure, looks, target, methods):
    """The place of the hidden postcard, round by round."""
    height = figure.get_figheight()
    ax = _axes(figure, 0.66, height - 2.81, 1.2, 1.95)
    for i, name in enumerate(methods):
        places = [look.place(name, target) for look in looks]
        style = plots.look(name)
        ax.plot(places, **style, linewidth=1.8, markersize=4, markeredgewidth=0)
        x, text = 0.17 + (0, 0.83, 1.28)[i], f"\u25cf {plots.label(name)}"
        _write(figure, text, x, height - 0.3, fontsize=8, color=style["color"])
    ax.axhspan(0.8, WINS_AT, color="#e2f3ec", zorder=0)
    last, count = len(looks) - 1, len(looks[0].scores[methods[0]])
    ax.set(yscale="log", ylim=(count, 0.8), xlim=(-0.2, last + 0.2), xticks=range(last + 1))
    ax.set_yticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"])
    ax.minorticks_off()
    ax.tick_params(labelsize=7.5, length=0, colors=QUIET, pad=2)
    ax.set_xlabel("round", fontsize=8, color=QUIET, labelpad=1)
    how = dict(fontsize=8.5, color=INK, weight="bold", loc="left", x=-0.42, pad=5)
    ax.set_title("Its place, round by round", **how)


def _said_and_drawn(figure, asked, look, y):
    """A row's question and answer, its drawing, and how far that is trusted."""
    said = look.entries[-1].removeprefix(asked).strip()
    _bubble(figure, asked, 2.38, y + 0.3, "#ffffff", "#8c959f")
    lower = y + (0.95 if len(said) > 36 else 0.88)
    _bubble(figure, said, 4.66, lower, "#d8ecf8", "#9cc7e3", "right")
    _show(figure, look.drawing, 4.98, y, 1.06)
    trust = 1 - look.gate
    for share, color in ((1, LIGHT), (trust, plots.BLUE)):
        bar = Rectangle((4.98, y + 1.1), 1.06 * share, 0.07, facecolor=color)
        bar.set_transform(_inches(figure))
        figure.add_artist(bar)
    _write(figure, f"trusted {100 * trust:.0f} %", 4.98, y + 1.28, fontsize=8.5, color=QUIET)


def _found(figure, searcher, look, name, target, x, y):
    """What one method finds first, and the place of the hidden postcard."""
    for i, index in enumerate(look.best(name, 4)):
        frame = plots.GREEN if index == target else None
        _show(figure, searcher.picture(index), x + 0.6 * i, y, 0.57, frame)
    place = look.place(name, target)
    how = {"weight": "bold", "color": WON} if place <= WINS_AT else {}
    _write(figure, f"the hidden one is at place {place:,}", x, y + 0.8, fontsize=9.5, **how)
    if place <= WINS_AT:
        text = "found" if place == 1 else "in the top ten: found"
        _write(figure, text, x, y + 1.03, fontsize=9, color=WON)


def plot_game(searcher, looks, questions, target, rounds=(0, 1, 2, 3), methods=("DAR", "AdaFuSE")):
    """A game as a figure: what was said and drawn, how far the drawing is trusted, what is found.

    looks: of one game, round by round; questions: asked after each; target: the hidden postcard;
    rounds: the first ones to show; methods: two searchers.
    """
    rounds = [r for r in rounds if r < len(looks)]
    height = ROW * len(rounds) + 0.62
    figure = plt.figure(figsize=(WIDTH, height), dpi=100, layout="none", facecolor="white")
    shape = dict(boxstyle="round,pad=0,rounding_size=0.012", mutation_aspect=WIDTH / height)
    shape |= dict(facecolor="white", edgecolor="#d0d7de", linewidth=1.2, zorder=-9)
    card = FancyBboxPatch((0.006, 0.008), 0.988, 0.984, transform=figure.transFigure, **shape)
    figure.add_artist(card)
    _show(figure, searcher.picture(target), 0.17, 0.52, 1.5, plots.GREEN)
    text = "Somebody describes it and\nanswers. The searcher has\nnever seen it, and looks for\n"
    text += f"it among {len(searcher.features):,}."
    _write(figure, text, 0.17, 2.46, fontsize=9, color=QUIET, linespacing=1.4)
    for text, x in (("The hidden postcard", 0.17), ("Said", 2.3), ("Drawn from it", 4.98)):
        _write(figure, text, x, 0.3, weight="bold")
    columns = {name: 6.42 + 2.5 * i for i, name in enumerate(methods)}
    for name, x in columns.items():
        color = plots.look(name)["color"]
        _write(figure, f"{plots.label(name)} finds", x, 0.3, weight="bold", color=color)
    if len(rounds) > 2:
        _curves(figure, looks[: rounds[-1] + 1], target, ("TextOnly", *methods))
    for row, r in enumerate(rounds):
        y = 0.52 + ROW * row
        if row:
            ends = (2.25, WIDTH - 0.15), (y - 0.08, y - 0.08)
            figure.add_artist(plt.Line2D(*ends, color=LIGHT, lw=1, transform=_inches(figure)))
        asked = questions[r - 1].text if r else "what are you looking for?"
        _said_and_drawn(figure, asked, looks[r], y)
        for name, x in columns.items():
            _found(figure, searcher, looks[r], name, target, x, y)
    return figure
