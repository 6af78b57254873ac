"""The game on the screen: widgets that show a ``state.Game`` and pass on what is typed and clicked.

Drawing and searching run in one worker thread, one job after the other, so the page stays usable;
what was clicked for a round that is over is dropped. Works with ipywidgets 7.7 (Colab) and 8;
nothing is fetched from elsewhere.
"""

import asyncio
import threading
import traceback
from concurrent import futures
from functools import lru_cache, partial
from itertools import zip_longest
from pathlib import Path

import ipywidgets as widgets

from ..errors import InputError
from .asking import DONT_KNOW
from .page import PAGE, curve, data_uri
from .seeing import WORDS
from .state import Game

CHOICES = 6  # buttons for answers, "don't know" apart
SETTLE = 0.25  # seconds in which the text that was typed arrives behind its Enter
MODES = (("Hide and seek", "hide"), ("Free search", "free"))
FORMS = (("openly", "open"), ("yes or no", "yes/no"))
CSS = Path(__file__).with_name("demo.css").read_text(encoding="utf-8")


class Worker:
    """Does jobs one after the other, in a thread of its own or at once; ``failed`` gets errors."""

    def __init__(self, background, failed):
        self.thread = futures.ThreadPoolExecutor(1, "adafuse-lite-demo") if background else None
        self.failed, self.newest, self.last = failed, {}, None

    def put(self, kind, job, merge=False):
        """Have a job done; one that may be merged is left out if a newer one of its kind waits."""
        self.newest[kind] = job

        def run():
            try:
                if not merge or self.newest[kind] is job:
                    job()
            except Exception as error:
                self.failed(error)

        if self.thread is None:
            run()
        else:
            self.last = self.thread.submit(run)

    @property
    def busy(self):
        return self.last is not None and not self.last.done()

    def wait(self, seconds=60):
        """Until nothing is left to do (for tests and scripts); whether that came about."""
        return not self.busy or not futures.wait([self.last], seconds).not_done


def styled(widget, name):
    """The widget with a class of ``demo.css``."""
    widget.add_class(f"af-{name}")
    return widget


def row(*children, name="row"):
    return styled(styled(widgets.HBox(children), "row"), name)


def button(name, action):
    """The button of this name in ``words.toml``."""
    text, tooltip = WORDS["buttons"][name]
    made = widgets.Button(description=text, tooltip=tooltip)
    made.on_click(lambda _: action())
    return styled(made, "button")


class Demo(widgets.VBox):
    """Chat with the searcher.

    searcher: a ``Searcher``. targets: corpus indices of postcards that may be hidden, with their
    ``scenes`` {index: scene}; without them the search is free. seed: which postcard comes first,
    and the drawings' noise. background=False does all work at once, for scripts.
    """

    def __init__(self, searcher, targets=(), scenes=None, seed=0, background=True):
        self.searcher, self.targets, self.scenes, self.seed = searcher, list(targets), scenes, seed
        self.number, self.errors, self.note = 0, [], ""
        self.worker = Worker(background, self._failed)
        self.tile = lru_cache(500)(lambda index: data_uri(searcher.picture(index)))
        self.entered = False  # Enter was pressed, and its text is not there yet
        self.setting = False  # a widget is being set from here, not by the player
        try:
            self.loop = asyncio.get_running_loop() if background else None
        except RuntimeError:
            self.loop = None
        self._begin("hide" if self.targets else "free", "open")
        super().__init__(self._build())
        self.add_class("af")
        self.render()

    def __repr__(self):  # what notebooks store, for those who see no widget
        return "The demo needs a running kernel: choose Run All and it appears here."

    # --- building
    def _build(self):
        change = partial(partial, self._change)  # a button's action
        modes = MODES if self.targets else MODES[1:]
        self.mode = styled(widgets.ToggleButtons(options=modes, description="Play"), "mode")
        self.mode.observe(lambda _: self.new(), "value")
        self.form = styled(widgets.Dropdown(options=FORMS, description="Ask me"), "form")
        self.form.observe(lambda _: self._change(Game.set_form, self.form.value), "value")
        self.new_button = button("new", self.new)
        self.restart_button = button("restart", change(Game.restart))
        self.undo_button = button("undo", change(Game.undo, merge=False))
        self.again_button = button("again", change(Game.draw_again))
        self.text = widgets.Text(
            description="You say", placeholder="Type here, Enter sends it", continuous_update=False
        )
        self.text.on_msg(lambda _, content, __: content.get("event") == "submit" and self.send())
        self.text.observe(lambda _: self.entered and self.loop and self._take(), "value")
        self.send_button = button("send", self.send)
        self.send_button.button_style = "primary"
        self.tell_button = button("tell", partial(self.send, False))
        choose = lambda i: self._say(self.choices[i].description, True)
        self.choices = [button("choice", partial(choose, i)) for i in range(CHOICES)]
        self.unknown = button("unknown", partial(self._say, DONT_KNOW, True))
        self.trust = styled(widgets.IntSlider(20, 0, 100, description="Trust, %"), "trust")
        self.trust.observe(lambda _: self._trust(), "value")
        self.by_head = button("by_head", change(Game.set_gate))
        html = lambda name: styled(widgets.HTML(), name)
        self.hidden, self.chat, self.state = html("hidden"), html("chat"), html("state")
        self.drawn, self.dial, self.line, self.wall = map(html, ("drawn", "dial", "line", "wall"))
        talk, answers = row(self.hidden, self.chat, name="talk"), row(*self.choices, self.unknown)
        typed = row(styled(self.text, "text"), self.send_button, self.tell_button)
        left = styled(widgets.VBox([talk, answers, typed, self.state]), "left")
        gate = styled(widgets.VBox([self.dial, row(self.trust, self.by_head)]), "gate")
        drawing = styled(widgets.VBox([self.drawn, self.again_button]), "picture")
        top = row(drawing, gate, self.line, name="top")
        right = styled(widgets.VBox([top, self.wall]), "right")
        game_buttons = self.new_button, self.restart_button, self.undo_button
        style = widgets.HTML(f"<style>{CSS}</style>", layout=widgets.Layout(display="none"))
        tools = row(self.mode, self.form, *game_buttons, name="tools")
        return [style, tools, row(left, right, name="main")]

    def _begin(self, mode, form):
        """A new game, "hide" and seek or "free" search."""
        target = scene = None
        if mode == "hide":
            target = self.targets[(self.seed + self.number) % len(self.targets)]
            scene = self.scenes[target]
        self.game = Game(self.searcher, target, scene, form, self.seed)

    # --- what the player does
    def send(self, as_answer=None):
        """Enter or a button. Its text may still be on its way from the page: it is taken when it
        comes, or a moment later."""
        self.entered, self.as_answer = True, as_answer
        later = self.loop.call_later if self.loop else lambda seconds, take: take()
        later(SETTLE, self._take)

    def _take(self):
        if not self.entered:
            return
        self.entered, text = False, self.text.value
        if self.worker.busy:
            if text.strip():  # kept in its box: nothing typed is lost
                self.state.value = PAGE.state(WORDS["notes"]["wait"], "bad")
        elif self.game.over:
            self.state.value = PAGE.state(WORDS["notes"]["over"], "bad")
        else:
            self.text.value = ""
            self._say(text, self.as_answer)

    def _say(self, text, as_answer):
        game, before = self.game, len(self.game.rounds)
        if as_answer and game.question is None:  # a late click
            return
        # A second click on the same answer comes when the round is over, and is dropped.
        still = lambda: game is self.game and len(game.rounds) == before
        self._do("say", partial(game.say, text, as_answer), still, merge=False)

    def new(self):
        """Another postcard, or another search."""
        self.number += 1
        self._do("new", partial(self._begin, self.mode.value, self.form.value))

    def _trust(self):
        if not self.setting and self.searcher.head is not None:
            self._change(Game.set_gate, 1 - self.trust.value / 100)

    def _change(self, change, *values, merge=True):
        """Have a method of the game called, unless another game has begun by then."""
        game = self.game
        self._do(change.__name__, partial(change, game, *values), lambda: game is self.game, merge)

    def _do(self, kind, work, still=lambda: True, merge=True):
        def job():
            if still():
                self._later(partial(setattr, self.state, "value", PAGE.busy()))
                work()
            self._later(self.render)

        self.worker.put(kind, job, merge)

    def _failed(self, error):
        """Nothing that happens in the thread may pass in silence."""
        self.errors.append("".join(traceback.format_exception(error)))
        wrong = f"Something went wrong ({type(error).__name__}: {error})."
        known = isinstance(error, InputError)
        self.note = str(error) if known else f"{wrong} Undo or restart, and please report it."
        self._later(self.render)

    def _later(self, function):
        """Widgets are set from the kernel's own thread where there is one."""
        if self.loop is not None and threading.current_thread() is not threading.main_thread():
            self.loop.call_soon_threadsafe(function)
        else:
            function()

    # --- showing
    def render(self):
        """Show the game as it stands."""
        game, question = self.game, self.game.question
        look = game.history[-1].look
        self.new_button.description = "New search" if game.target is None else "New postcard"
        choices = question.choices[:CHOICES] if question else []
        for choice, text in zip_longest(self.choices, choices, fillvalue=""):
            choice.description, choice.layout.display = text, "" if text else "none"
        self.unknown.layout.display = "" if question else "none"
        self.hidden.value = PAGE.hidden(game, self.tile)
        self.chat.value = PAGE.chat(game)
        self.drawn.value = PAGE.drawn(look, look and data_uri(look.drawing))
        self.dial.value = PAGE.dial(game, look)
        self.line.value = PAGE.line(game, look, curve(game.places, len(self.searcher.features)))
        self.wall.value = PAGE.wall(game, look, self.tile)
        if look and look.used is not None:
            self.setting = True
            self.trust.value = round(100 * (1 - look.used))
            self.setting = False
        self.state.value, self.note = PAGE.status(game, self.note), ""
