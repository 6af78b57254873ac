"""The demo's widgets, driven from Python:
they show the game and pass on what is typed and clicked."""

import asyncio
import base64
import io
import re
import threading
import time
from html.parser import HTMLParser

import ipywidgets as widgets
import pytest
import torch
from PIL import Image
from test_game import small_searcher

from adafuse_lite import game
from adafuse_lite.game import asking
from adafuse_lite.game.figure import plot_game
from adafuse_lite.game.page import PAGE, curve, data_uri
from adafuse_lite.game.widgets import CHOICES, Demo, Worker


def demo_of(searcher=None, hide=True, **options):
    made, scenes = small_searcher()
    targets = [7, 8, 9] if hide else []
    return Demo(
        searcher or made, targets, dict(enumerate(scenes)), **{"background": False, **options}
    )


@pytest.fixture
def demo():
    return demo_of()


def shown(demo):
    """All that stands on the page."""
    return "\n".join(
        w.value
        for w in (demo.hidden, demo.chat, demo.state, demo.drawn, demo.dial, demo.line, demo.wall)
    )


def type_(demo, text):
    demo.text.value = text
    demo.text._handle_custom_msg({"event": "submit"}, [])  # as the page sends it


def buttons(demo):
    return [b.description for b in demo.choices if b.layout.display != "none"]


class Balanced(HTMLParser):
    """Collects tags and refuses what does not nest."""

    EMPTY = {"img", "br", "path", "line", "rect", "circle", "polyline"}

    def __init__(self):
        super().__init__()
        self.open, self.tags = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.EMPTY:
            assert self.open and self.open.pop() == tag, tag


def parsed(html):
    reader = Balanced()
    reader.feed(html)
    assert not reader.open, reader.open
    return reader.tags


def test_shows_a_round(demo):
    before = shown(demo)
    assert "data:image/png" in demo.hidden.value and "Only you see it" in before
    assert buttons(demo) == demo.game.question.choices[:CHOICES]
    type_(demo, "a red barn")
    assert demo.text.value == "" and len(demo.game.rounds) == 1
    page = shown(demo)
    assert page.count("<img") == 1 + 1 + 27 and "a red barn" in page
    for name in ("text only", "DAR", "ADaFuSE"):
        assert f"{name} · yours at place" in page
    look = demo.game.rounds[0].look
    assert (
        f"{100 * (1 - look.gate):.0f} %" in demo.dial.value
        and demo.dial.value.count("expert ") >= 4
    )
    assert demo.trust.value == round(100 * (1 - look.gate))
    assert demo.game.question.text in demo.chat.value
    parsed(page)


def test_pictures_carry_their_own_bytes(demo):
    type_(demo, "a red barn")
    for tag, attributes in parsed(shown(demo)):
        if tag == "img":
            assert attributes["alt"].strip()
            kind, _, data = attributes["src"].partition(",")
            assert kind == "data:image/png;base64"
            assert Image.open(io.BytesIO(base64.b64decode(data))).size == (64, 64)
        assert not any(str(v).startswith(("http", "//")) for v in attributes.values())
    large = PAGE.img(data_uri(Image.new("RGB", (2000, 1000))), "photo", 100)
    assert len(large) < 5_000 and 'alt="photo"' in large


def test_buttons_answer(demo):
    question = demo.game.question
    demo.choices[1].click()
    assert demo.game.rounds[0].entry == f"{question.text} {question.choices[1]}"
    question = demo.game.question
    demo.unknown.click()
    assert demo.game.rounds[1].entry == f"{question.text} {asking.DONT_KNOW}"
    question, demo.text.value = demo.game.question, "dark blue"
    demo.send_button.click()
    assert demo.game.rounds[2].entry == f"{question.text} dark blue"
    demo.text.value = "there is a cat"
    demo.tell_button.click()
    assert demo.game.rounds[3].entry == "there is a cat"


def test_yes_and_no(demo):
    demo.form.value = "yes/no"
    assert buttons(demo) == ["yes", "no"] and demo.unknown.layout.display != "none"
    demo.choices[1].click()
    assert demo.game.rounds[0].entry.endswith("? no") and buttons(demo) == ["yes", "no"]
    demo.form.value = "open"
    assert demo.game.question.form in ("open", "exists")


def test_tools(demo):
    type_(demo, "a red barn")
    old = demo.drawn.value
    demo.again_button.click()
    assert demo.drawn.value != old
    first = demo.game.question
    demo.choices[0].click()
    demo.undo_button.click()
    assert demo.game.question == first and len(demo.game.rounds) == 1
    demo.restart_button.click()
    assert demo.game.rounds == [] and "<img" not in demo.drawn.value
    target = demo.game.target
    demo.new_button.click()
    assert demo.game.target != target
    demo.undo_button.click()
    assert "nothing to undo" in demo.state.value


def test_the_slider_sets_the_gate(demo):
    type_(demo, "a red barn")
    wall, own = demo.wall.value, demo.trust.value
    demo.trust.value = 100
    assert demo.game.gate == 0 and demo.game.rounds[0].look.used == 0
    assert "by hand" in demo.dial.value and demo.wall.value != wall
    demo.by_head.click()
    assert (
        demo.game.gate is None
        and demo.trust.value == own
        and demo.wall.value == wall
        and "by hand" not in demo.dial.value
    )


def test_free_search():
    demo = demo_of(hide=False)
    assert [value for _, value in demo.mode.options] == [
        "free"
    ] and "Free search" in demo.hidden.value
    type_(demo, "a red barn")
    assert (
        "place" not in demo.wall.value.replace('alt="Place', "")
        and "What is drawn, in words" in demo.line.value
    )
    demo = demo_of()
    demo.mode.value = "free"
    assert demo.game.target is None and demo.new_button.description == "New search"


def test_a_game_to_its_end(demo):
    for _ in range(12):
        if not demo.game.over:
            demo.unknown.click() if demo.game.rounds else type_(demo, "somewhere")
    assert demo.game.over and "game is over" in demo.chat.value and buttons(demo) == []
    type_(demo, "more")
    assert "over" in demo.state.value and demo.text.value == "more"
    demo.undo_button.click()
    assert not demo.game.over and buttons(demo)


NASTY = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "&lt;b&gt; & '",
    "🐄🚜",
    "כפר קטן",
    "x" * 5000,
    "</div></div></div>",
]


@pytest.mark.parametrize("text", NASTY)
def test_any_text_is_shown_as_it_is(demo, text):
    type_(demo, text)
    type_(demo, text)
    tags = parsed(shown(demo))
    assert {tag for tag, _ in tags} <= {
        "div",
        "h4",
        "p",
        "img",
        "svg",
        "g",
        "path",
        "text",
        "b",
        "span",
        "i",
        "bdi",
        "line",
        "rect",
        "circle",
        "polyline",
    }
    assert not any(name.startswith("on") for _, attributes in tags for name in attributes)
    if len(text) < 400:
        words = re.sub("<[^>]*>", "", demo.chat.value)
        assert __import__("html").unescape(words).count(text) == 2
    assert not demo.errors


def test_says_that_text_is_cut(demo):
    type_(demo, "very " * 100 + "long")
    assert "its end is cut off" in demo.chat.value
    type_(demo, "y" * 3000)
    assert "first 2,000 characters" in demo.state.value


def test_what_is_empty_is_no_round(demo):
    type_(demo, "  ")
    assert demo.game.rounds == [] and "nothing to read" in demo.state.value


def test_failures_are_shown_and_kept(demo):
    demo.searcher.generator = lambda prompts, seeds: 1 / 0
    type_(demo, "a barn")
    assert "went wrong" in demo.state.value and "ZeroDivisionError" in demo.errors[0]
    assert demo.game.rounds == [] and not demo.worker.busy


def test_looks_the_same_to_nbval_at_every_run(demo):
    assert repr(demo) == repr(demo_of()) and "kernel" in repr(demo)
    bundle = getattr(demo, "_repr_mimebundle_", None)
    if bundle:
        assert bundle()["text/plain"] == repr(demo)


def test_needs_no_widget_younger_than_colabs():
    """ipywidgets 7.7 has these; and none is told anything that only 8 knows."""
    known = {
        "HTML",
        "HBox",
        "VBox",
        "Text",
        "Button",
        "IntSlider",
        "Dropdown",
        "ToggleButtons",
        "Demo",
    }
    found, queue = set(), [demo_of()]
    while queue:
        widget = queue.pop()
        found.add(type(widget).__name__)
        queue += getattr(widget, "children", ())
        if isinstance(
            widget, (widgets.Text, widgets.IntSlider, widgets.Dropdown, widgets.ToggleButtons)
        ):
            assert widget.description, "a control without a label"
        if isinstance(widget, widgets.Button):
            assert widget.tooltip
    assert found <= known


# --- the parts ------------------------------------------------------------------------------------
def test_gauge_bars_and_curve_say_it_in_words():
    assert "30 per cent" in PAGE.gauge(0.3) and "30 %" in PAGE.gauge(0.3)
    assert "set by hand to 80" in PAGE.gauge(0.3, 0.8) and "80 %" in PAGE.gauge(0.3, 0.8)
    assert "no head" in PAGE.gauge(None)
    assert "expert 2 75 per cent" in PAGE.bars((0.25, 0.75)) and PAGE.bars(()) == ""
    drawn = curve({"TextOnly": [400, 30, 2], "rival": [10_000, 1, 1], "DAR": []}, 10_000)
    assert "text only: 400, 30, 2" in drawn and "the machine: 10,000, 1, 1" in drawn
    for html in (
        PAGE.gauge(0.0),
        PAGE.gauge(1.0),
        PAGE.gauge(0.5, 0.0),
        PAGE.bars((1.0,)),
        drawn,
        curve({}, 3),
        curve({"DAR": [1] * 30}, 1),
    ):
        parsed(html)


def luminance(color):
    parts = [int(color.lstrip("#")[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    return sum(
        w * (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4)
        for w, c in zip((0.2126, 0.7152, 0.0722), parts)
    )


@pytest.mark.parametrize(
    "ink, paper",
    [
        ("#1f2328", "#ffffff"),
        ("#57606a", "#ffffff"),
        ("#57606a", "#f6f8fa"),
        ("#a1260d", "#f6f8fa"),
        ("#05603a", "#e2f3ec"),
        ("#ffffff", "#0b5c8e"),
        ("#ffffff", "#00694d"),
        ("#1f2328", "#d8ecf8"),
        ("#1f2328", "#fff4d6"),
    ],
)
def test_contrast_is_enough(ink, paper):
    a, b = sorted((luminance(ink), luminance(paper)))
    assert (b + 0.05) / (a + 0.05) >= 4.5


def test_a_figure_of_a_game():
    searcher, scenes = small_searcher()
    played = game.simulate(searcher, [scenes[5]], [5], last=4, keep=True)
    figure = plot_game(searcher, played.looks[0], played.questions[0], 5)
    texts = [t.get_text() for t in figure.texts]
    assert any("place" in t for t in texts) and any("trusted" in t for t in texts)
    import matplotlib.pyplot as plt

    plt.close(figure)


# --- haste ----------------------------------------------------------------------------------------
def slow(searcher, seconds=0.15):
    """The same searcher, whose drawings take a while."""
    draw = searcher.generator

    class Slow(type(draw)):
        def __call__(self, prompts, seeds=None):
            time.sleep(seconds)
            return super().__call__(prompts, seeds)

    searcher.generator = Slow()
    return searcher


def test_a_double_click_is_one_round():
    demo = demo_of(slow(small_searcher()[0]), background=True)
    demo.choices[0].click()
    demo.choices[0].click()
    demo.choices[1].click()
    assert demo.worker.wait() and len(demo.game.rounds) == 1 and not demo.errors


def test_what_is_typed_while_drawing_is_kept():
    demo = demo_of(slow(small_searcher()[0]), background=True)
    type_(demo, "a red barn")
    type_(demo, "a second one")
    assert demo.text.value == "a second one" and "One moment" in demo.state.value
    type_(demo, "")
    assert demo.worker.wait() and len(demo.game.rounds) == 1


def test_undo_and_restart_in_haste():
    demo = demo_of(slow(small_searcher()[0], 0.05), background=True)
    type_(demo, "a red barn")
    demo.undo_button.click()
    demo.again_button.click()
    demo.restart_button.click()
    demo.new_button.click()
    demo.choices[0].click()
    assert demo.worker.wait() and not demo.errors and len(demo.game.rounds) <= 1
    for value in range(0, 100, 7):
        demo.trust.value = value
    assert demo.worker.wait() and not demo.errors


def test_waiting_jobs_of_a_kind_become_one():
    done, gate, failed = [], threading.Event(), []
    worker = Worker(True, failed.append)
    worker.put("first", gate.wait)
    time.sleep(0.05)
    for i in range(10):
        worker.put("slider", lambda i=i: done.append(i), merge=True)
    worker.put("bad", lambda: 1 / 0)
    gate.set()
    assert worker.wait() and done == [9] and len(failed) == 1


def test_in_a_kernel_widgets_are_set_from_its_own_thread(monkeypatch):
    """With an event loop the worker only computes; and Enter may come before its text."""

    async def play():
        demo = demo_of(slow(small_searcher()[0], 0.1), background=True)
        threads = set()
        demo.wall.observe(lambda change: threads.add(threading.current_thread()), "value")
        demo.text._handle_custom_msg({"event": "submit"}, [])
        await asyncio.sleep(0.02)
        demo.text.value = "a red barn"  # arrives behind its Enter
        for _ in range(300):
            await asyncio.sleep(0.01)
            if demo.game.rounds and not demo.worker.busy and "<img" in demo.wall.value:
                break
        assert demo.game.rounds[0].entry == "a red barn" and demo.text.value == ""
        assert threads == {threading.main_thread()}
        # text that was there before: taken a moment after the click
        demo.text.value = "green"
        assert len(demo.game.rounds) == 1
        demo.send_button.click()
        for _ in range(300):
            await asyncio.sleep(0.01)
            if len(demo.game.rounds) == 2:
                break
        assert demo.game.rounds[1].entry.endswith("? green") and not demo.errors

    asyncio.run(play())


def test_photographs(tmp_path):
    from adafuse_lite import PictureIndex, photos
    from adafuse_lite.postcards.render import draw
    from adafuse_lite.postcards.world import scenes

    for i, scene in enumerate(scenes("models", 12)):
        draw(scene).resize((400, 300)).save(tmp_path / f"{i:02}.jpg")
    album, other = photos(tmp_path, progress=False), small_searcher()[0]
    index = PictureIndex(
        album.corpus,
        torch.nn.functional.normalize(torch.randn(12, 32), dim=-1),
        {"encoder": "words"},
    )
    searcher = game.Searcher.photos(index, album, other.encoder, other.generator)
    demo = Demo(searcher, background=False)
    type_(demo, "a red barn")
    assert (
        demo.wall.value.count("<img") == 2 * 9
        and "ADaFuSE" not in demo.wall.value
        and not demo.errors
    )
    demo.choices[0].click()
    demo.trust.value = 50
    assert len(demo.game.rounds) == 2 and not demo.errors
