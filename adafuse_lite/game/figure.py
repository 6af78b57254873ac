"""A game as a figure, for those who see no widgets."""

import textwrap

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch, Rectangle

from .. import plots
from .state import WINS_AT

WIDTH, ROW = 11.56, 1.5  # inches; all that is drawn has its place in inches from the upper left
INK, QUIET, LIGHT, WON = "#1f2328", "#57606a", "#e3e8ed", "#05603a"


def _sheet(height):
    """Axes over a whole figure, a card with round corners, whose units are inches."""
    figure = plt.figure(figsize=(WIDTH, height), dpi=100, layout="none", facecolor="white")
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))
    ax.axis("off")
    shape = dict(boxstyle="round,pad=0,rounding_size=0.14", facecolor="white", edgecolor="#d0d7de")
    ax.add_patch(FancyBboxPatch((0.07, 0.02), WIDTH - 0.14, height - 0.04, linewidth=1.2, **shape))
    return ax


def _write(ax, text, x, y, **how):
    ax.text(x, y, text, **{"va": "center", "color": INK, "fontsize": 10} | how)


def _bubble(ax, text, x, y, face, edge, align="left"):
    shape = dict(boxstyle="round,pad=0.45,rounding_size=0.5", facecolor=face, edgecolor=edge)
    text = "\n".join(textwrap.wrap(text, 36))
    _write(ax, text, x, y, ha=align, fontsize=9.5, linespacing=1.25, bbox=shape)


def _show(ax, image, x, y, size, frame=None):
    inset = ax.inset_axes((x, y, size, size), transform=ax.transData)
    inset.imshow(image, interpolation="nearest")
    inset.set(xticks=[], yticks=[])
    inset.spines[:].set(visible=frame is not None, color=frame, linewidth=3.5)


def _curves(ax, looks, target, methods):
    """The place of the hidden postcard, round by round."""
    height = ax.get_ylim()[0]
    inset = ax.inset_axes((0.66, height - 2.81, 1.2, 1.95), transform=ax.transData)
    for i, name in enumerate(methods):
        places = [look.place(name, target) for look in looks]
        style = plots.look(name)
        inset.plot(places, **style, linewidth=1.8, markersize=4, markeredgewidth=0)
        x, text = 0.17 + (0, 0.83, 1.28)[i], f"\u25cf {plots.label(name)}"
        _write(ax, text, x, height - 0.3, fontsize=8, color=style["color"])
    inset.axhspan(0.8, WINS_AT, color="#e2f3ec", zorder=0)
    last, count = len(looks) - 1, len(looks[0].scores[methods[0]])
    inset.set(yscale="log", ylim=(count, 0.8), xlim=(-0.2, last + 0.2), xticks=range(last + 1))
    inset.set_yticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"])
    inset.minorticks_off()
    inset.tick_params(labelsize=7.5, length=0, colors=QUIET, pad=2)
    inset.set_xlabel("round", fontsize=8, color=QUIET, labelpad=1)
    how = dict(fontsize=8.5, color=INK, weight="bold", loc="left", x=-0.42, pad=5)
    inset.set_title("Its place, round by round", **how)


def _said_and_drawn(ax, asked, look, y):
    """A row's question and answer, its drawing, and how far that is trusted."""
    said = look.entries[-1].removeprefix(asked).strip()
    _bubble(ax, asked, 2.38, y + 0.3, "#ffffff", "#8c959f")
    lower = y + (0.95 if len(said) > 36 else 0.88)
    _bubble(ax, said, 4.66, lower, "#d8ecf8", "#9cc7e3", "right")
    _show(ax, look.drawing, 4.98, y, 1.06)
    trust = 1 - look.gate
    for share, color in ((1, LIGHT), (trust, plots.BLUE)):
        ax.add_patch(Rectangle((4.98, y + 1.1), 1.06 * share, 0.07, facecolor=color))
    _write(ax, f"trusted {100 * trust:.0f} %", 4.98, y + 1.28, fontsize=8.5, color=QUIET)


def _found(ax, searcher, look, name, target, x, y):
    """What one method finds first, and the place of the hidden postcard."""
    for i, index in enumerate(look.best(name, 4)):
        frame = plots.GREEN if index == target else None
        _show(ax, searcher.picture(index), x + 0.6 * i, y, 0.57, frame)
    place = look.place(name, target)
    how = {"weight": "bold", "color": WON} if place <= WINS_AT else {}
    _write(ax, f"the hidden one is at place {place:,}", x, y + 0.8, fontsize=9.5, **how)
    if place <= WINS_AT:
        text = "found" if place == 1 else "in the top ten: found"
        _write(ax, text, x, y + 1.03, fontsize=9, color=WON)


def plot_game(searcher, looks, questions, target, rounds=(0, 1, 2, 3), methods=("DAR", "AdaFuSE")):
    """A game as a figure: what was said and drawn, how far the drawing is trusted, what is found.

    looks: of one game, round by round; questions: asked after each; target: the hidden postcard;
    rounds: the first ones to show; methods: two searchers.
    """
    rounds = [r for r in rounds if r < len(looks)]
    ax = _sheet(ROW * len(rounds) + 0.62)
    _show(ax, searcher.picture(target), 0.17, 0.52, 1.5, plots.GREEN)
    text = "Somebody describes it and\nanswers. The searcher has\nnever seen it, and looks for\n"
    text += f"it among {len(searcher.features):,}."
    _write(ax, text, 0.17, 2.46, fontsize=9, color=QUIET, linespacing=1.4)
    for text, x in (("The hidden postcard", 0.17), ("Said", 2.3), ("Drawn from it", 4.98)):
        _write(ax, text, x, 0.3, weight="bold")
    columns = {name: 6.42 + 2.5 * i for i, name in enumerate(methods)}
    for name, x in columns.items():
        color = plots.look(name)["color"]
        _write(ax, f"{plots.label(name)} finds", x, 0.3, weight="bold", color=color)
    if len(rounds) > 2:
        _curves(ax, looks[: rounds[-1] + 1], target, ("TextOnly", *methods))
    for row, r in enumerate(rounds):
        y = 0.52 + ROW * row
        if row:
            ax.hlines(y - 0.08, 2.25, WIDTH - 0.15, color=LIGHT, linewidth=1)
        asked = questions[r - 1].text if r else "what are you looking for?"
        _said_and_drawn(ax, asked, looks[r], y)
        for name, x in columns.items():
            _found(ax, searcher, looks[r], name, target, x, y)
    return ax.figure
