"""The figures draw what they are given, and keep methods apart in more than colour."""

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgba

from adafuse_lite import plots


@pytest.fixture(autouse=True)
def closed():
    plots.use_style()
    yield
    plt.close("all")


def test_no_two_methods_look_alike():
    looks = [tuple(plots.look(name).values()) for name in plots.METHODS]
    assert len(set(looks)) == len(looks)
    assert len({(line, marker) for _, line, marker in looks}) == len(looks), (
        "in grey they would be the same"
    )
    assert len({name for name, *_ in plots.METHODS.values()}) == len(looks)


def test_rounds_are_drawn_in_percent_with_their_band():
    mean, names = np.linspace(0.1, 0.8, 11), list(plots.METHODS)
    curves = {name: (mean, mean - 0.05, mean + 0.05) for name in names}
    ax = plots.plot_rounds(curves | {"something new": mean}, "Recall@10 (%)")
    assert len(ax.lines) == len(names) + 1
    for name, line in zip(names, ax.lines):
        np.testing.assert_allclose(line.get_ydata(), 100 * mean)
        assert to_rgba(line.get_color()) == to_rgba(plots.METHODS[name][1])
    bands = ax.collections[0].get_paths()[0].vertices
    assert bands[:, 1].min() == pytest.approx(5) and bands[:, 1].max() == pytest.approx(85)


def test_names_at_the_ends_do_not_overlap():
    ax = plots.plot_rounds({name: np.full(11, 0.5) for name in plots.METHODS}, "%")
    heights = sorted(text.xy[1] for text in ax.texts)
    assert [text.get_text() for text in ax.texts] == [plots.label(name) for name in plots.METHODS]
    assert min(np.diff(heights)) > 0


def test_a_curve_may_have_gaps():
    ax = plots.plot_rounds({"DAR": np.array([0.1, np.nan, np.nan])}, "%", percent=False)
    assert ax.texts[0].xy[1] == pytest.approx(0.1)
    assert not plots.plot_rounds({"DAR": np.full(3, np.nan)}, "%").texts


def test_training_has_a_panel_for_each_title():
    figure = plots.plot_training(
        [1, 2],
        {"loss": {"training": [[3, 2], [4, 2]]}, "experts": {"1": [0.4, 0.5], "2": [0.6, 0.5]}},
    )
    first, second = figure.axes
    np.testing.assert_allclose(first.lines[-1].get_ydata(), [3.5, 2])
    assert len(second.lines) == 2


def test_pictures_stand_in_a_grid():
    picture = np.zeros((4, 4, 3), np.uint8)
    figure = plots.show_pictures(
        [[picture, None], [picture]], titles=[["a", "b"], ["c"]], captions=["x", "y"]
    )
    assert len(figure.axes) == 6
    assert sum(len(ax.images) for ax in figure.axes) == 2


def test_data_flow_names_both_embeddings():
    words = " ".join(text.get_text() for text in plots.plot_data_flow().axes[0].texts)
    assert "$z_T$" in words and "$z_D$" in words and "generator" in words


def test_differences_are_drawn_in_points_and_hollow_where_they_hold_zero():
    ax = plots.plot_differences(
        {
            "one": {"sure": (0.05, 0.01, 0.09), "less": (-0.04, -0.08, -0.01)},
            "two": {"open": (0.01, -0.02, 0.04)},
        }
    )
    marks = [line for line in ax.lines if line.get_marker() == "o"]
    assert [round(float(line.get_xdata()[0]), 6) for line in marks] == [5, -4, 1]
    filled = [line.get_markerfacecolor() != "white" for line in marks]
    assert filled == [True, True, False]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["sure", "less", "open"]
    assert "+5.0 [+1.0, +9.0]" in [t.get_text() for t in ax.texts] and {"one", "two"} <= {
        t.get_text() for t in ax.texts
    }
    plt.close("all")
