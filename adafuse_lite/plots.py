"""Figures in one style. Nothing here computes results: every function draws what it is given.

A method has the same colour (of Okabe and Ito's, which all people can tell apart), line and marker
in every figure; line and marker serve prints in grey.
"""

import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MaxNLocator

BLACK, GREY, ORANGE, SKY = "#000000", "#7a7a7a", "#e69f00", "#56b4e9"
GREEN, BLUE, RED, PINK = "#009e73", "#0072b2", "#d55e00", "#cc79a7"

# name: (what a reader calls it, colour, line, marker)
METHODS = {
    "TextOnly": ("text only", BLACK, "-", "o"),
    "TextOnlyPrompt": ("text only, rewritten prompt", GREY, "--", "o"),
    "ImageOnly": ("drawing only", ORANGE, "-", "s"),
    "FixedWeight": ("best fixed weight", GREEN, "-", "^"),
    "FixedWeightPerRound": ("best fixed weight per round", GREEN, "--", "v"),
    "StandardisedSum": ("sum of standardised scores", SKY, "--", "P"),
    "CosineGate": ("gate from the cosine", SKY, "-", "X"),
    "FixedWeightOffsetRemoved": ("best fixed weight, offset removed", GREEN, ":", "p"),
    "DAR": ("DAR", RED, "-", "D"),
    "DAROffsetRemoved": ("DAR, offset removed", RED, ":", "d"),
    "GateOnly": ("gate only", PINK, "-", "<"),
    "ExpertsOnly": ("experts only", PINK, "--", ">"),
    "AdaFuSE": ("ADaFuSE", BLUE, "-", "*"),
    "AdaFuSETextText": ("head, text as picture", BLUE, "--", "h"),
    "AdaFuSETextPrompt": ("head, prompt as picture", BLUE, ":", "H"),
}
SHADES = (BLUE, ORANGE, GREEN, PINK, SKY, RED, BLACK, GREY)  # for what is no method
STYLE = Path(__file__).with_name("figures.mplstyle")

# The way of the data: left, bottom, width, height, colour, text of each box.
KEPT, TRAINED, PLAIN = "#dceaf7", "#fde3c8", "#f1f1f1"
BOXES = (
    (0, 20, 14, 9, PLAIN, "dialogue\nup to round r"),
    (0, 2, 14, 9, PLAIN, "corpus\nof pictures"),
    (21, 11, 14, 8, KEPT, "generator\n(diffusion)"),
    (45, 22, 14, 8, KEPT, "text encoder"),
    (45, 5, 14, 10, KEPT, "image encoder"),
    (69, 16, 14, 10, TRAINED, "ADaFuSE\nhead"),
    (89, 4, 11, 10, PLAIN, "ranks of\nall pictures"),
)
# Of each arrow: from, to, what flows, where its name stands.
ARROWS = (
    ((14, 26), (45, 26), "joined text", (29, 27.3)),
    ((14, 22), (21, 16.5), "rewritten\nprompt", (21.5, 21.8)),
    ((35, 13.5), (45, 12), "drawing", (40, 14.4)),
    ((14, 6.5), (45, 6.5), "pictures", (29, 7.8)),
    ((59, 26), (69, 23), "$z_T$", (62, 26.6)),
    ((59, 12), (69, 19), "$z_D$", (62, 16.6)),
    ((59, 6.5), (89, 6.5), "corpus embeddings", (75.5, 7.8)),
    ((83, 20), (92, 14), "$z$", (88.5, 18.2)),
)


def use_style():
    """The look of all figures; call it once at the top of a notebook."""
    options = {"context": "notebook", "style": "whitegrid", "palette": SHADES, "font_scale": 0.9}
    sns.set_theme(**options)
    plt.style.use(STYLE)


def label(name):
    """A method's name as a reader knows it; a name that has no entry stands for itself."""
    return METHODS.get(name, (name,))[0]


def look(name, place=0):
    """Colour, line and marker of a method as keywords for ``plot``."""
    _, color, line, marker = METHODS.get(name, (name, SHADES[place % len(SHADES)], "-", "o"))
    return {"color": color, "linestyle": line, "marker": marker}


def plot_rounds(curves, ylabel, title="", ax=None, percent=True):
    """One curve a method over the rounds, named at its right end.

    curves: {name: values [rounds]} or {name: (values, lowest, highest)}, drawn with a band.
    """
    ax = ax or plt.subplots()[1]
    scale, ends = 100 if percent else 1, []
    for place, (name, curve) in enumerate(curves.items()):
        band = curve if isinstance(curve, tuple) else (curve,) * 3
        mean, low, high = scale * np.asarray(band, dtype=float)
        style = look(name, place)
        size = 9 if style["marker"] == "*" else 4.5
        width = 2.6 if name == "AdaFuSE" else 1.6
        options = {"linewidth": width, "markersize": size, "markeredgewidth": 0}
        ax.plot(mean, **style, **options, label=label(name))
        ax.fill_between(range(len(mean)), low, high, color=style["color"], alpha=0.13, linewidth=0)
        shown = np.flatnonzero(np.isfinite(mean))
        if len(shown):
            ends.append([mean[shown[-1]], label(name), style["color"]])
    ax.set(xlabel="round of the dialogue", ylabel=ylabel, title=title)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    name_ends(ax, ends)
    return ax


def name_ends(ax, ends):
    """Write each curve's name beside its last point, moved apart where they would overlap."""
    low, high = ax.get_ylim()
    height = ax.figure.get_size_inches()[1] * ax.get_position().height * 72
    step, last = 11.5 / height * (high - low), -np.inf
    ends = sorted(ends, key=lambda end: end[0])
    places = []
    for value, *_ in ends:
        last = max(value, last + step)
        places.append(last)
    for i in range(len(places) - 1, -1, -1):  # and down again where the pile is too high
        places[i] = min(places[i], (places[i + 1] if i + 1 < len(places) else high + step) - step)
    right = ax.get_xlim()[1]
    for (_, text, color), y in zip(ends, places):
        ax.annotate(text, (right, y), color=color, va="center", fontsize=9, annotation_clip=False)
    ax.set_xlim(right=right)
    ax.set_ylim(low, high)


def plot_differences(groups, xlabel="difference in points", title="", ax=None):
    """Differences with their intervals, one line each, against zero; a filled mark where the
    interval leaves out zero.

    groups: {name of a group: {name of a line: (mean, low, high)}} as shares; drawn in points.
    """
    count = sum(map(len, groups.values())) + len(groups)
    ax = ax or plt.subplots(figsize=(7.5, 0.5 + 0.27 * count))[1]
    beside = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
    y, names = 0, {}
    for place, (group, lines) in enumerate(groups.items()):
        color = SHADES[place % len(SHADES)]
        ax.annotate(group, (0, y), xytext=(4, 0), fontsize=9, weight="bold", **beside)
        for name, line in lines.items():
            y += 1
            mean, low, high = (100 * float(v) for v in line)
            filled = color if low > 0 or high < 0 else "white"
            ax.plot([low, high], [y, y], color=color, linewidth=2)
            ax.plot(mean, y, "o", color=color, markerfacecolor=filled, markersize=6)
            numbers = f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"
            ax.annotate(numbers, (1, y), xytext=(6, 0), fontsize=8, annotation_clip=False, **beside)
            names[y] = name
        y += 1
    ax.axvline(0, color=BLACK, linewidth=1)
    ax.set(xlabel=xlabel, title=title, ylim=(y - 0.4, -0.6))
    ax.set_yticks(list(names), list(names.values()))
    ax.grid(axis="y", visible=False)
    return ax


def plot_training(steps, panels):
    """What happened in training, one panel each.

    steps: [n]; panels: {title: {name: values [n] or [runs, n], drawn thin and as their mean}}.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(3.7 * len(panels), 3.1), squeeze=False)
    for ax, (title, curves) in zip(axes[0], panels.items()):
        for place, (name, values) in enumerate(curves.items()):
            values, color = np.atleast_2d(np.asarray(values, float)), SHADES[place % len(SHADES)]
            if len(values) > 1:
                ax.plot(steps, values.T, color=color, linewidth=0.7, alpha=0.45)
            ax.plot(steps, values.mean(0), color=color, linewidth=2, label=name)
        ax.set(title=title, xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(curves) > 1:
            ax.margins(y=0.3)  # room for the names
            ax.legend(fontsize=8, ncols=2, loc="upper center")
    return figure


def plot_data_flow():
    """The way of the data: what is computed once and kept, and the small part that is trained."""
    figure, ax = plt.subplots(figsize=(10, 3.4))
    ax.set(xlim=(0, 100), ylim=(0, 36))
    ax.axis("off")
    centred = {"ha": "center", "va": "center"}
    for x, y, width, height, color, text in BOXES:
        shape = {"boxstyle": "round,pad=0,rounding_size=1.2", "edgecolor": "#555555"}
        ax.add_patch(FancyBboxPatch((x, y), width, height, facecolor=color, **shape))
        ax.text(x + width / 2, y + height / 2, text, fontsize=10, **centred)
    arrow = {"arrowstyle": "-|>", "color": "#555555", "shrinkA": 1, "shrinkB": 1}
    for start, end, text, at in ARROWS:
        ax.annotate("", end, start, arrowprops=arrow)
        ax.text(*at, text, fontsize=9, color="#333333", **centred)
    ax.plot([65.5, 65.5], [0, 34], color="#999999", linestyle=(0, (5, 4)), linewidth=1)
    heading = {"ha": "center", "fontsize": 10, "weight": "bold"}
    ax.text(32, 33.5, "frozen, computed once, kept in the feature bank", **heading)
    ax.text(82, 33.5, "trained here, in seconds", **heading)
    return figure


def show_pictures(rows, titles=None, captions=None, size=1.35):
    """Rows of pictures (None: a gap), ``titles`` above each, one of ``captions`` left of a row."""
    rows = [list(row) for row in rows]
    columns, left = max(map(len, rows)), bool(captions)
    shape = (size * columns + 2.6 * left, (size + 0.28 * bool(titles)) * len(rows))
    ratios = [2.6 / size] * left + [1] * columns
    options = {"squeeze": False, "figsize": shape, "width_ratios": ratios}
    figure, axes = plt.subplots(len(rows), columns + left, **options)
    for ax in axes.flat:
        ax.axis("off")
    for i, row in enumerate(rows):
        if captions:
            ax, text = axes[i, 0], textwrap.fill(captions[i], 34)
            ax.text(0, 0.5, text, va="center", fontsize=9, transform=ax.transAxes)
        for j, picture in enumerate(row):
            ax = axes[i, j + left]
            if picture is not None:
                ax.imshow(picture, interpolation="nearest")
            if titles and titles[i][j]:
                lines = [textwrap.fill(line, 22) for line in str(titles[i][j]).split("\n")]
                ax.set_title("\n".join(lines), fontsize=8, weight="normal", loc="center")
    return figure
