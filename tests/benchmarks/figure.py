"""figures/speed.png, from what results.json holds."""

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402

from adafuse_lite.plots import BLACK, BLUE, GREY, ORANGE, SHADES, use_style  # noqa: E402


def bars(ax, rows, names, title, xlabel, form="{:.3g}"):
    """One bar a row, with its spread; ``names``: {row's name: what the figure calls it}."""
    rows = {row["what"]: row for row in rows}
    shown = [(label, rows[what]) for what, label in names.items() if what in rows]
    for y, (label, row) in enumerate(shown):
        color = {"missed": ORANGE, "holds": BLUE}.get(
            row["verdict"], BLUE if "ours" in label else GREY
        )
        ax.barh(y, row["median"], color=color, height=0.6)
        if row["runs"] > 1:
            ax.plot([row["min"], row["max"]], [y, y], color=BLACK, linewidth=1)
        ax.annotate(
            form.format(row["median"]),
            (max(row["max"], row["median"]), y),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    ax.set_yticks(range(len(shown)), [label for label, _ in shown])
    ax.set(title=title, xlabel=xlabel)
    ax.invert_yaxis()
    ax.margins(x=0.15)
    ax.grid(axis="y", visible=False)


def protocol(ax, rows):
    names = {
        "argsort, a round": "sort everything",
        "ranks, a round": "count (ours)",
        "bare product, a round": "the product alone",
    }
    bars(ax, rows, names, "Ranks, one round of the protocol", "seconds")


def head(ax, rows):
    names = {}
    for row in rows:
        where, _, what = row["what"].partition(": ")
        if what == "bare products : AdaFuSE":
            names[row["what"]] = where
    bars(
        ax,
        rows,
        names,
        "Head: time of the bare products / its time",
        "share (goal: 0.8, dashed; orange: missed)",
        "{:.2f}",
    )
    ax.axvline(0.8, color=BLACK, linewidth=1, linestyle="--")
    ax.set_xlim(0, 1.15)


def banks(ax, rows):
    ending = ", share of the time"
    names = {
        row["what"]: row["what"].removesuffix(ending)
        for row in rows
        if row["what"].endswith(ending)
    }
    names |= {row["what"]: "all else" for row in rows if row["what"].startswith("reading, writing")}
    bars(ax, rows, names, "Building a bank: where the time goes", "share of the time", "{:.3f}")


def notebooks(ax, rows):
    names = {
        row["what"]: row["what"].partition(":")[0] for row in rows if row["what"].endswith(": time")
    }
    bars(ax, rows, names, "Notebooks as they stand", "seconds", "{:.0f}")


def growth(ax, rows):
    for place, row in enumerate(rows):
        sizes, seconds = zip(*row["points"])
        what = row["what"].partition(":")[0]
        style = {"color": SHADES[place], "marker": "o"}
        if "bare" in what:
            style = (
                {"color": BLACK, "linestyle": ":"}
                if "at once" in what
                else {"color": GREY, "linestyle": "--"}
            )
        ax.loglog(sizes, seconds, **style, label=f"{what}: slope {row['median']:.2f}")
    ax.set(title="Growth", xlabel="size", ylabel="seconds")
    ax.set_ylim(top=ax.get_ylim()[1] * 300)  # room for the legend
    ax.legend(fontsize=8, loc="upper left")


def gpu(ax, rows):
    names = {row["what"]: row["what"] for row in rows if row["unit"] == "epochs/s"}
    bars(ax, rows, names, "Training on a GPU", "epochs a second")


def draw(results, path):
    use_style()
    panels = {
        "protocol": protocol,
        "head": head,
        "growth": growth,
        "banks": banks,
        "notebooks": notebooks,
        "gpu": gpu,
    }
    have = [name for name in panels if name in results and results[name]["rows"][0]["runs"]]
    columns = min(2, len(have))
    figure, axes = plt.subplots(
        -(-len(have) // columns),
        columns,
        squeeze=False,
        figsize=(6 * columns, 3.1 * -(-len(have) // columns)),
    )
    for ax in axes.flat[len(have) :]:
        ax.axis("off")
    for ax, name in zip(axes.flat, have):
        panels[name](ax, results[name]["rows"])
    figure.savefig(path)
    plt.close(figure)
