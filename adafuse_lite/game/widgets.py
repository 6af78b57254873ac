"""The game on the screen: widgets that only show a ``game.Game`` and pass on what is typed and clicked.

Drawing and searching run in one worker thread, one job after the other, so the page stays usable; what was clicked for a round
that is over is dropped. Works with ipywidgets 7.7 (Colab) and 8; nothing is fetched from elsewhere.
"""

import asyncio
import base64
import io
import math
import queue
import textwrap
import threading
import time
import traceback
from html import escape

import ipywidgets as widgets
from PIL import Image

from .. import plots
from ..errors import InputError
from .play import DONT_KNOW, ROUNDS, TOP, Game

SHOWN = 9  # pictures of each searcher on the wall
CHOICES = 6  # buttons for answers, "don't know" apart
SETTLE = 0.25  # seconds in which the text that was typed arrives behind its Enter
MODES = (("Hide and seek", "hide"), ("Free search", "free"))
FORMS = (("openly", "open"), ("yes or no", "yes/no"))

CSS = """<style>
.af { background:#fff; color:#1f2328; padding:10px 12px; border:1px solid #d0d7de; border-radius:10px; font-size:14px; max-width:1240px; box-sizing:border-box }
.af .widget-html, .af .widget-html-content { color:#1f2328; line-height:1.4; height:auto; overflow:visible }
.af .widget-label, .af label { color:#1f2328 }
.af .jupyter-button { border-radius:6px; border:1px solid #8c959f; background:#f3f4f6; color:#1f2328; line-height:1.2 }
.af .jupyter-button:focus-visible, .af input:focus-visible, .af .noUi-handle:focus-visible { outline:3px solid #0072b2; outline-offset:1px }
.af .jupyter-button.mod-primary { background:#0b5c8e; border-color:#0b5c8e; color:#fff }
.af .jupyter-button.mod-active { background:#0b5c8e; border-color:#0b5c8e; color:#fff; box-shadow:none }
.af input[type=text] { background:#fff; color:#1f2328; border:1px solid #6e7781 }
.af .widget-toggle-buttons { display:flex; flex-flow:row nowrap; align-items:center }
.af .widget-toggle-buttons .widget-toggle-button { padding:0 4px !important }
.af .widget-readout { color:#1f2328; background:#fff }
.af h4 { margin:0 0 4px; font-size:13px; font-weight:600; color:#1f2328 }
.af img { image-rendering:pixelated; display:block; border-radius:4px; background:#eee; object-fit:contain }
.af .small { color:#57606a; font-size:12px }
.af .chat { height:250px; overflow-y:auto; display:flex; flex-direction:column-reverse; border:1px solid #d0d7de; border-radius:8px; padding:6px 8px; background:#f6f8fa }
.af .line { margin:3px 0; padding:5px 9px; border-radius:9px; max-width:88%; width:fit-content; overflow-wrap:anywhere }
.af .asks { background:#fff; border:1px solid #d0d7de }
.af .says { background:#d8ecf8; margin-left:auto }
.af .told { font-size:12px; color:#57606a; padding:0 4px; max-width:100% }
.af .now { background:#fff4d6; border:1px solid #d9a520; font-weight:600 }
.af .state { min-height:22px; font-size:13px }
.af .bad { color:#a1260d }
.af .good { color:#05603a; font-weight:600 }
.af .busy { display:inline-block; width:64px; height:8px; border-radius:4px; margin-right:8px; background:linear-gradient(90deg,#cfe3f1 25%,#0072b2 50%,#cfe3f1 75%); background-size:200% 100%; animation:af-run 1s linear infinite }
@keyframes af-run { from { background-position:200% 0 } to { background-position:0 0 } }
@media (prefers-reduced-motion: reduce) { .af .busy { animation:none } }
.af .wall { display:flex; gap:14px; flex-wrap:wrap }
.af .column { flex:1 1 200px; max-width:270px; border-top:4px solid; padding-top:5px }
.af .cards { display:grid; grid-template-columns:repeat(3,minmax(0,1fr)); gap:5px }
.af .card img { width:100%; aspect-ratio:1; height:auto }
.af .card.hit img { outline:4px solid #009e73; outline-offset:-1px }
.af .tag { display:block; font-size:11px; line-height:1.3; margin-top:3px; color:#57606a }
.af .hit .tag { background:#00694d; color:#fff; font-weight:600; padding:0 4px; border-radius:3px }
.af .bar { display:grid; grid-template-columns:64px 1fr 38px; align-items:center; gap:6px; font-size:12px; margin:2px 0 }
.af .bar > span { height:11px; border-radius:3px; background:#e3e8ed; overflow:hidden } .af .bar i { display:block; height:100% }
.af .folded summary { cursor:pointer } .af .folded { margin:0 }
</style>"""


def picture(image, size, alt, extra=""):
    """A picture as an ``<img>`` that carries its own bytes, small ones enlarged without smoothing."""
    image = image.convert("RGB")
    if max(image.size) > 256:  # photographs
        image.thumbnail((256, 256), Image.Resampling.LANCZOS)
    held = io.BytesIO()
    image.save(held, "PNG")
    width = f'width="{size}" height="{size}" ' if size else ""
    return f'<img src="data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}" {width}alt="{escape(alt)}" {extra}>'


def method_label(name):
    return plots.label(name)


def method_color(name):
    return {"rival": plots.GREEN}.get(name) or plots.look(name)["color"]


def gauge(trust, by_hand=None):
    """A half circle from 0 to 100 %: how far the drawing is trusted, and where it was set by hand."""

    def at(share, radius):
        angle = math.pi * (1 - share)
        return f"{80 + radius * math.cos(angle):.1f},{78 - radius * math.sin(angle):.1f}"

    if trust is None:
        return '<p class="small">There is no head for this encoder, so there is no gate.</p>'
    said = f"How much I trust the drawing: {100 * trust:.0f} per cent" + (
        f"; set by hand to {100 * by_hand:.0f}" if by_hand is not None else ""
    )
    used = trust if by_hand is None else by_hand
    ring = lambda end, color: (
        f'<path d="M {at(0, 62)} A 62 62 0 0 1 {at(end, 62)}" fill="none" stroke="{color}" stroke-width="15"/>'
    )
    own = (
        f'<path d="M {at(trust, 52)} L {at(trust, 72)}" stroke="#1f2328" stroke-width="2.5"/>'
        if by_hand is not None
        else ""
    )
    return (
        f'<svg role="img" aria-label="{said}" viewBox="0 0 160 92" width="160" height="92">{ring(1, "#e3e8ed")}'
        f"{ring(max(used, 0.005), plots.ORANGE if by_hand is not None else plots.BLUE)}{own}"
        f'<text x="80" y="74" text-anchor="middle" font-size="24" font-weight="700" fill="#1f2328">{100 * used:.0f} %</text>'
        f'<text x="80" y="89" text-anchor="middle" font-size="10.5" fill="#57606a">'
        f"{'by hand; the head says %.0f %%' % (100 * trust) if by_hand is not None else 'the rest goes to the text'}</text></svg>"
    )


def bars(routing):
    """A bar for each expert's share."""
    rows = "".join(
        f'<div class="bar"><b>expert {i}</b><span><i style="width:{100 * share:.0f}%;background:{plots.SHADES[i - 1]}"></i></span>{100 * share:.0f} %</div>'
        for i, share in enumerate(routing, 1)
    )
    said = ", ".join(f"expert {i} {100 * share:.0f} per cent" for i, share in enumerate(routing, 1))
    return (
        f'<div role="img" aria-label="Shares of the experts: {said}">{rows}</div>'
        if routing
        else ""
    )


def curve(places, count, rounds=ROUNDS):
    """Places by round as a picture (SVG) on a logarithmic scale, the first place at the top; a table in words for screen readers."""
    wide, high, left, top, bottom = 330, 176, 40, 10, 30
    last = max([rounds, *(len(p) - 1 for p in places.values())])
    x = lambda r: left + (wide - left - 92) * r / last
    y = lambda place: top + (high - top - bottom) * math.log10(place) / max(1, math.log10(count))
    parts = [
        f'<rect x="{left}" y="{top}" width="{x(last) - left:.0f}" height="{y(TOP) - top:.1f}" fill="#e2f3ec"/>'
        f'<text x="{x(last) + 5:.0f}" y="{y(TOP) - 4:.1f}" font-size="10" fill="#05603a">top ten</text>'
    ]
    for power in range(int(math.log10(count)) + 1):
        parts.append(
            f'<line x1="{left}" x2="{x(last):.0f}" y1="{y(10**power):.1f}" y2="{y(10**power):.1f}" stroke="#d8dee4"/>'
            f'<text x="{left - 5}" y="{y(10**power) + 3.5:.1f}" text-anchor="end" font-size="10" fill="#57606a">{10**power:,}</text>'
        )
    for r in range(0, last + 1, 2):
        parts.append(
            f'<text x="{x(r):.0f}" y="{high - 16}" text-anchor="middle" font-size="10" fill="#57606a">{r}</text>'
        )
    parts.append(
        f'<text x="{x(last / 2):.0f}" y="{high - 3}" text-anchor="middle" font-size="10.5" fill="#57606a">round</text>'
    )
    ends, said = [], []
    for name, line in places.items():
        if not line:
            continue
        label, color = (
            ("the machine" if name == "rival" else method_label(name)),
            method_color(name),
        )
        dash = ' stroke-dasharray="4 3"' if name == "rival" else ""
        points = " ".join(f"{x(r):.1f},{y(p):.1f}" for r, p in enumerate(line))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="{2.6 if name == "AdaFuSE" else 1.7}"{dash}/>'
        )
        for r, p in enumerate(line):
            cx, cy = x(r), y(p)
            parts.append(
                f'<rect x="{cx - 3:.1f}" y="{cy - 3:.1f}" width="6" height="6" fill="{color}"/>'
                if name == "DAR"
                else f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="{4 if name == "AdaFuSE" else 3}" fill="{"#fff" if name == "rival" else color}" stroke="{color}" stroke-width="1.5"/>'
            )
        ends.append([y(line[-1]), x(len(line) - 1), f"{label} {line[-1]:,}", color])
        said.append(f"{label}: " + ", ".join(f"{p:,}" for p in line))
    at = top + 4
    for end in sorted(ends):  # names apart from one another
        at = max(at, end[0])
        parts.append(
            f'<text x="{end[1] + 8:.0f}" y="{at + 3.5:.1f}" font-size="11" font-weight="600" fill="{end[3]}">{end[2]}</text>'
        )
        at += 12.5
    return f'<svg role="img" aria-label="Place of the hidden postcard by round. {"; ".join(said) or "No round yet"}" viewBox="0 0 {wide} {high}" width="100%" style="max-width:{wide}px">{"".join(parts)}</svg>'


class Worker:
    """Runs jobs one after the other in a thread of its own (or at once, without one). A job that waits is replaced by a newer one
    of the same kind, and is dropped if its ``still`` says that its time has passed."""

    def __init__(self, background, failed):
        self.background, self.failed = background, failed
        self.jobs, self.latest, self.lock, self.thread = queue.Queue(), {}, threading.Lock(), None
        self.running = 0

    def put(self, kind, work, still=lambda: True, merge=False):
        job = [work, still]
        with self.lock:
            if merge and kind in self.latest:
                self.latest[kind][:] = job  # it has not begun yet
                return
            if merge:
                self.latest[kind] = job
            self.running += 1
        if not self.background:
            self._do(kind, job)
            return
        self.jobs.put((kind, job))
        with self.lock:
            if self.thread is None or not self.thread.is_alive():
                self.thread = threading.Thread(
                    target=self._loop, daemon=True, name="adafuse-lite-demo"
                )
                self.thread.start()

    def _loop(self):
        while True:
            self._do(*self.jobs.get())

    def _do(self, kind, job):
        with self.lock:
            if self.latest.get(kind) is job:
                del self.latest[kind]
            work, still = job
        try:
            if still():
                work()
        except Exception as error:
            self.failed(error)
        finally:
            with self.lock:
                self.running -= 1

    @property
    def busy(self):
        return self.running > 0

    def wait(self, seconds=60):
        """Until nothing is left to do (for tests and scripts)."""
        end = time.monotonic() + seconds
        while self.busy and time.monotonic() < end:
            time.sleep(0.01)
        return not self.busy


class Demo(widgets.VBox):
    """Chat with the searcher.

    searcher: a ``game.Searcher``. targets: corpus places of postcards that may be hidden, with their ``scenes`` {place: scene};
    without them the search is free. seed: which postcard is hidden first, and the drawings' noise. background=False does all
    work at once, for scripts.
    """

    def __init__(self, searcher, targets=(), scenes=None, seed=0, background=True):
        self.searcher, self.targets, self.scenes, self.seed = searcher, list(targets), scenes, seed
        self.number, self.errors, self.note = 0, [], ""
        self.worker = Worker(background, self._failed)
        self.wanted, self.as_answer = (
            False,
            None,
        )  # Enter was pressed, and its text is not there yet
        self.setting = False  # a widget is being set from here, not by the player
        self.pictures = {}
        try:
            self.loop = asyncio.get_running_loop() if background else None
        except RuntimeError:
            self.loop = None
        self.game = self._new_game("hide" if self.targets else "free", "open")
        super().__init__(self._build())
        self.add_class("af")
        self.render()

    # What notebooks store and nbval compares: the same at every run, and a word for those who see no widget.
    def __repr__(self):
        return "The demo needs a running kernel: choose Run All and it appears here."

    # --- building -------------------------------------------------------------------------------------------------
    def _build(self):
        lay = lambda **k: widgets.Layout(**k)
        auto = lambda: lay(width="auto", flex="0 0 auto", margin="2px 4px 2px 0")

        def button(text, action, tooltip, style=""):
            made = widgets.Button(
                description=text, tooltip=tooltip, button_style=style, layout=auto()
            )
            made.on_click(lambda _: action())
            return made

        self.mode = widgets.ToggleButtons(
            options=MODES if self.targets else MODES[1:],
            value="hide" if self.targets else "free",
            description="Play",
            style={"description_width": "32px", "button_width": "104px"},
            layout=lay(width="262px", flex="0 0 auto"),
        )
        self.form = widgets.Dropdown(
            options=FORMS,
            value="open",
            description="Ask me",
            style={"description_width": "50px"},
            layout=lay(width="152px", flex="0 0 auto"),
        )
        self.mode.observe(lambda change: self.new(), "value")
        self.form.observe(lambda change: self._form(), "value")
        self.new_button = button("New postcard", self.new, "Begin a new game")
        self.restart_button = button("Restart", self.restart, "Begin this game again")
        self.undo_button = button("Undo", self.undo, "Take back the last message")
        self.again_button = button(
            "Draw again", self.draw_again, "Draw the same words from another noise"
        )
        self.text = widgets.Text(
            description="You say",
            placeholder="Type here, Enter sends it",
            continuous_update=False,
            style={"description_width": "54px"},
            layout=lay(width="auto", flex="1 1 150px", min_width="150px", margin="2px 4px 2px 0"),
        )
        self.text.on_msg(
            lambda _, content, buffers: content.get("event") == "submit" and self.send()
        )
        self.text.observe(lambda change: self._typed(), "value")
        self.send_button = button("Send", self.send, "Send what you typed", "primary")
        self.tell_button = button(
            "Tell instead",
            lambda: self.send(False),
            "Send it as a remark of your own, not as an answer to the question",
        )
        self.choices = [
            button("", lambda i=i: self.choose(i), "Give this answer") for i in range(CHOICES)
        ]
        self.unknown = button(
            "don't know", lambda: self.answer(DONT_KNOW), "Say that you cannot tell"
        )
        self.trust = widgets.IntSlider(
            value=20,
            min=0,
            max=100,
            description="Trust, %",
            style={"description_width": "54px"},
            layout=lay(width="auto", flex="1 1 150px"),
        )
        self.trust.observe(lambda change: self._trust(), "value")
        self.by_head = button("As the head says", self.release, "Let the head set the gate again")
        html = lambda **k: widgets.HTML(layout=lay(margin="0", **k))
        self.hidden, self.chat, self.state = html(flex="1 1 250px"), html(flex="2 1 300px"), html()
        self.drawn, self.dial, self.line, self.wall = html(), html(), html(flex="1 1 250px"), html()
        row = lambda *children, **k: widgets.HBox(
            children, layout=lay(flex_flow="row wrap", align_items=k.pop("align", "center"), **k)
        )
        # A minimal width of 0 lets columns shrink with the page.
        talk = row(self.hidden, self.chat, align="stretch", grid_gap="6px 12px")
        left = widgets.VBox(
            [
                talk,
                row(*self.choices, self.unknown),
                row(self.text, self.send_button, self.tell_button),
                self.state,
            ],
            layout=lay(flex="1 1 300px", min_width="270px"),
        )
        gate = widgets.VBox(
            [self.dial, row(self.trust, self.by_head)],
            layout=lay(flex="1 1 200px", min_width="190px", max_width="260px"),
        )
        picture_box = widgets.VBox([self.drawn, self.again_button], layout=lay(flex="0 0 auto"))
        top = row(picture_box, gate, self.line, align="flex-start", grid_gap="6px 14px")
        right = widgets.VBox([top, self.wall], layout=lay(flex="3 1 480px", min_width="0"))
        tools = row(
            self.mode,
            self.form,
            self.new_button,
            self.restart_button,
            self.undo_button,
            grid_gap="2px 4px",
            margin="0 0 8px",
        )
        return [
            widgets.HTML(CSS, layout=lay(display="none")),
            tools,
            row(left, right, align="flex-start", grid_gap="16px"),
        ]

    def _new_game(self, mode, form):
        if mode == "free":
            return Game(self.searcher, form=form, seed=self.seed)
        target = self.targets[(self.seed + self.number) % len(self.targets)]
        return Game(self.searcher, target, self.scenes[target], form, seed=self.seed)

    # --- what the player does ---------------------------------------------------------------------------------------
    def send(self, as_answer=None):
        """Enter or a button: its text may still be on its way from the page, so it is taken when it comes, or a moment later."""
        self.wanted = True
        self.as_answer = as_answer
        if self.loop is None:
            self._take()
        else:
            self.loop.call_later(SETTLE, self._take)

    def _typed(self):
        if self.wanted and self.loop is not None:
            self._take()

    def _take(self):
        if not self.wanted:
            return
        self.wanted, text = False, self.text.value
        if self.worker.busy:
            if text.strip():  # kept in its box: nothing typed is lost
                self._tell("One moment, I am still drawing; press Enter again when I am done.")
            return
        if self.game.over:
            self._tell("This game is over: begin a new one, or undo.")
            return
        self.text.value = ""
        self._say(text, self.as_answer)

    def choose(self, i):
        """A click on one of the answers."""
        question = self.game.question
        if question is not None and i < len(question.choices):
            self.answer(question.choices[i])

    def answer(self, text):
        """Answer the question that stands with these words."""
        if self.game.question is not None:
            self._say(text, as_answer=True)

    def _say(self, text, as_answer=None):
        game, before = self.game, len(self.game.rounds)

        def work():
            if game.say(text, as_answer) and game is self.game:
                self.note = ""

        # A second click on the same answer comes when the round is over, and is dropped.
        self._do("say", work, lambda: game is self.game and len(game.rounds) == before)

    def undo(self):
        self._change("undo", lambda game: game.undo())

    def restart(self):
        self._change("restart", lambda game: game.restart(), merge=True)

    def draw_again(self):
        self._change("draw again", lambda game: game.draw_again(), merge=True)

    def release(self):
        """Let the head set the gate again."""
        self._change("gate", lambda game: game.set_gate(None), merge=True)

    def new(self):
        """Another postcard, or another search."""
        self.number += 1
        mode, form = self.mode.value, self.form.value

        def work():
            self.game, self.note = self._new_game(mode, form), ""

        self._do("new", work, merge=True)

    def _form(self):
        form = self.form.value
        self._change("form", lambda game: game.set_form(form), merge=True)

    def _trust(self):
        if not self.setting and self.searcher.head is not None:
            gate = 1 - self.trust.value / 100
            self._change("gate", lambda game: game.set_gate(gate), merge=True)

    def _change(self, kind, change, merge=False):
        game = self.game
        self._do(kind, lambda: change(game), lambda: game is self.game, merge)

    def _do(self, kind, work, still=lambda: True, merge=False):
        def job():
            self._later(self._busy)
            work()

        def always():
            if still():
                return True
            self._later(self.render)
            return False

        self.worker.put(kind, lambda: (job(), self._later(self.render)), always, merge)

    def _failed(self, error):
        self.errors.append("".join(traceback.format_exception(error)))
        # Nothing that happens in the thread may pass in silence.
        self.note = (
            str(error)
            if isinstance(error, InputError)
            else f"Something went wrong ({type(error).__name__}: {error}). Undo or restart, and please report it."
        )
        self._later(self.render)

    def _later(self, function):
        """Widgets are set from the kernel's own thread where there is one."""
        if self.loop is not None and threading.current_thread() is not threading.main_thread():
            self.loop.call_soon_threadsafe(function)
        else:
            function()

    # --- showing ------------------------------------------------------------------------------------------------------
    def _tell(self, text, kind="bad"):
        self._set(self.state, f'<div class="state {kind}" role="status">{escape(text)}</div>')

    def _busy(self):
        self._set(
            self.state,
            '<div class="state" role="status"><span class="busy" aria-hidden="true"></span>reading, drawing, searching …</div>',
        )

    @staticmethod
    def _set(widget, value):
        if widget.value != value:  # an equal value need not travel
            widget.value = value

    def render(self):
        """Show the game as it stands."""
        game, question = self.game, self.game.question
        self.new_button.description = "New search" if game.target is None else "New postcard"
        last = game.rounds[-1] if game.rounds else None
        self._set(self.hidden, self._hidden(game))
        self._set(self.chat, self._chat(game))
        choices = question.choices[:CHOICES] if question else []
        for i, button in enumerate(self.choices):
            if i < len(choices):
                button.description = choices[i]
            button.layout.display = "" if i < len(choices) else "none"
        self.unknown.layout.display = "" if question else "none"
        self._set(self.drawn, self._drawing(last))
        self._set(self.dial, self._dial(last, game))
        self._set(self.line, self._line(game))
        self._set(self.wall, self._wall(last, game))
        if last is not None and last.look.used is not None:
            self.setting = True
            self.trust.value = round(100 * (1 - last.look.used))
            self.setting = False
        message = self.note or game.message
        if message:
            self._tell(message)
        elif game.verdict:
            self._tell(game.verdict, "good" if "you win" in game.verdict else "")
        elif last is not None:
            self._tell(f"Round {len(game.rounds) - 1} took {last.seconds:.1f} s.", "small")
        else:
            self._tell("")
        self.note = ""

    def _hidden(self, game):
        if game.target is None:
            return (
                f'<h4>Free search</h4><p class="small" style="margin:0">{len(self.searcher.features):,} pictures. Say what you look for, '
                "or let me ask; the wall shows what I find.</p>"
            )
        return (
            '<div style="display:flex;gap:10px">'
            + picture(self._picture(game.target), 120, "The hidden postcard")
            + f'<div><h4>Your postcard</h4><p class="small" style="margin:0">Only you see it. Describe it, or answer me. Bring it into ADaFuSE\'s top ten of '
            f"{len(self.searcher.features):,}, in fewer rounds than the machine, which plays the same one.</p></div></div>"
        )

    def _chat(self, game):
        lines = []
        for r, one in enumerate(game.rounds):
            before = game.first if r == 0 else game.rounds[r - 1].question
            asked = before if before is not None and one.entry.startswith(before.text) else None
            if asked:
                lines.append(f'<div class="line asks" dir="auto">{escape(asked.text)}</div>')
            said = one.entry[len(asked.text) :].strip() if asked else one.entry
            if len(said) > 400:
                said = f"{said[:400]} … ({len(said):,} characters in all)"
            lines.append(f'<div class="line says" dir="auto"><bdi>{escape(said)}</bdi></div>')
            if one.rival is not None:
                other = one.rival.entries[-1].partition("? ")
                lines.append(
                    f'<div class="told">the machine says: {escape(other[2] or other[0])}</div>'
                )
            if one.look.cut:
                lines.append(
                    '<div class="told bad">The text is longer than the encoder reads: its end is cut off for the search'
                    + (
                        ", and for the drawing too.</div>"
                        if one.look.prompt_cut
                        else "; the drawing still reads all of it.</div>"
                    )
                )
        question = game.question
        if question is not None:
            lead = "" if game.rounds else "Describe it in your own words, or answer: "
            lines.append(f'<div class="line asks now">{escape(lead + question.text)}</div>')
        elif not game.over:
            lines.append(
                '<div class="line asks now">I have no more questions. Tell me more, if you like.</div>'
            )
        else:
            lines.append('<div class="line asks now">The game is over.</div>')
        return f'<div class="chat" role="log" aria-label="Conversation" tabindex="0"><div>{"".join(lines)}</div></div>'

    def _drawing(self, last):
        if last is None:
            return '<h4>What I draw</h4><div style="width:150px;height:150px;border:1px dashed #8c959f;border-radius:4px;display:flex;align-items:center;text-align:center" class="small">the drawing of your words appears here</div>'
        return "<h4>What I draw</h4>" + picture(
            last.look.drawing, 150, f"Drawing of: {last.look.prompt[:200]}"
        )

    def _dial(self, last, game):
        if last is None:
            return '<h4>How much I trust the drawing</h4><p class="small">The gate decides after each message.</p>'
        look = last.look
        by_hand = None if game.gate is None or look.gate is None else 1 - look.used
        return (
            "<h4>How much I trust the drawing</h4>"
            + gauge(None if look.gate is None else 1 - look.gate, by_hand)
            + bars(look.routing)
        )

    def _line(self, game):
        if game.target is None:
            prompt = game.rounds[-1].look.prompt if game.rounds else "nothing yet"
            return f'<h4>What is drawn, in words</h4><p class="small" dir="auto" style="overflow-wrap:anywhere;max-height:150px;overflow-y:auto">{escape(prompt)}</p>'
        return "<h4>Place of yours by round</h4>" + curve(game.places, len(self.searcher.features))

    def _wall(self, last, game):
        if last is None:
            return '<p class="small">Here you will see what three searchers find first: text only, DAR and ADaFuSE.</p>'
        columns = []
        for name in self.searcher.methods:
            place = last.look.place(name, game.target) if game.target is not None else None
            where = "" if place is None else f" · yours at place {place:,}"
            cards = []
            for i, number in enumerate(last.look.best(name, SHOWN), 1):
                hit = number == game.target
                alt = f"Place {i}" + (", your postcard" if hit else "")
                cards.append(
                    f'<div class="card{" hit" if hit else ""}">{self._tile(number, alt)}<span class="tag">{i}{" yours" if hit else ""}</span></div>'
                )
            columns.append(
                f'<div class="column" style="border-color:{method_color(name)}"><h4>{escape(method_label(name))}{where}</h4><div class="cards">{"".join(cards)}</div></div>'
            )
        return f'<div class="wall" style="margin-top:8px">{"".join(columns)}</div>'

    def _picture(self, number):
        return self.searcher.picture(number)

    def _tile(self, number, alt):
        if number not in self.pictures:
            if len(self.pictures) > 500:
                self.pictures.clear()
            self.pictures[number] = picture(self._picture(number), None, "ALT")
        return self.pictures[number].replace('alt="ALT"', f'alt="{escape(alt)}"')


# --- a picture for those who see no widgets ----------------------------------------------------------------------------
def plot_game(searcher, looks, questions, target, rounds=(0, 1, 2, 3), methods=("DAR", "AdaFuSE")):
    """A game as a figure: what was asked and said, the drawing and how far it is trusted, what two searchers find first, and the
    place of the hidden postcard. looks: of one game, round by round; questions: asked after each."""
    import matplotlib.pyplot as plt
    from matplotlib.patches import FancyBboxPatch, Rectangle

    rounds = [r for r in rounds if r < len(looks)]
    height = 1.5 * len(rounds) + 0.62
    figure = plt.figure(figsize=(11.56, height), dpi=100, layout="none", facecolor="white")
    wide, ink, quiet = figure.get_size_inches()[0], "#1f2328", "#57606a"
    figure.add_artist(
        FancyBboxPatch(
            (0.006, 0.008),
            0.988,
            0.984,
            boxstyle="round,pad=0,rounding_size=0.012",
            transform=figure.transFigure,
            facecolor="white",
            edgecolor="#d0d7de",
            linewidth=1.2,
            mutation_aspect=wide / height,
            zorder=-9,
        )
    )

    def show(image, x, y, size, frame=None):
        ax = figure.add_axes((x / wide, 1 - (y + size) / height, size / wide, size / height))
        ax.imshow(image, interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        for side in ax.spines.values():
            side.set(visible=frame is not None, color=frame, linewidth=3.5)

    def write(text, x, y, **how):
        return figure.text(
            x / wide, 1 - y / height, text, **{"va": "center", "color": ink, "fontsize": 10, **how}
        )

    def bubble(text, x, y, face, edge, align="left"):
        write(
            text,
            x,
            y,
            ha=align,
            fontsize=9.5,
            linespacing=1.25,
            bbox={
                "boxstyle": "round,pad=0.45,rounding_size=0.5",
                "facecolor": face,
                "edgecolor": edge,
                "linewidth": 1,
            },
        )

    write("The hidden postcard", 0.17, 0.3, weight="bold")
    show(searcher.picture(target), 0.17, 0.52, 1.5, plots.GREEN)
    write(
        "Somebody describes it and\nanswers. The searcher has\nnever seen it, and looks for\n"
        f"it among {len(searcher.features):,}.",
        0.17,
        2.46,
        fontsize=9,
        color=quiet,
        linespacing=1.4,
    )
    write("Said", 2.3, 0.3, weight="bold")
    write("Drawn from it", 4.98, 0.3, weight="bold")
    starts = {name: 6.42 + 2.5 * i for i, name in enumerate(methods)}
    for name, x in starts.items():
        write(f"{method_label(name)} finds", x, 0.3, weight="bold", color=method_color(name))
    if len(rounds) > 2:
        ax = figure.add_axes((0.66 / wide, 0.86 / height, 1.2 / wide, 1.95 / height))
        for name in ("TextOnly", *methods):  # their names' colours are those of the headings
            ax.plot(
                [look.place(name, target) for look in looks[: rounds[-1] + 1]],
                **plots.look(name),
                linewidth=1.8,
                markersize=4,
                markeredgewidth=0,
            )
        ax.axhspan(0.8, TOP, color="#e2f3ec", zorder=0)
        ax.set(
            yscale="log",
            ylim=(len(searcher.features), 0.8),
            xlim=(-0.2, rounds[-1] + 0.2),
            xticks=rounds,
        )
        ax.set_yticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"])
        ax.minorticks_off()
        ax.tick_params(labelsize=7.5, length=0, colors=quiet, pad=2)
        ax.set_xlabel("round", fontsize=8, color=quiet, labelpad=1)
        ax.set_title(
            "Its place, round by round",
            fontsize=8.5,
            color=ink,
            weight="bold",
            loc="left",
            x=-0.42,
            pad=5,
        )
        for i, name in enumerate(("TextOnly", *methods)):
            write(
                f"\u25cf {method_label(name)}",
                0.17 + (0, 0.83, 1.28)[i],
                height - 0.3,
                fontsize=8,
                color=method_color(name),
            )
    for row, r in enumerate(rounds):
        look, y = looks[r], 0.52 + 1.5 * row
        if row:
            figure.add_artist(
                plt.Line2D(
                    (2.25 / wide, 1 - 0.15 / wide),
                    (1 - (y - 0.08) / height,) * 2,
                    color="#e3e8ed",
                    linewidth=1,
                )
            )
        asked = questions[r - 1].text if r else "what are you looking for?"
        said = look.entries[r].removeprefix(asked).strip()
        bubble("\n".join(textwrap.wrap(asked, 36)), 2.38, y + 0.3, "#ffffff", "#8c959f")
        bubble(
            "\n".join(textwrap.wrap(said, 36)),
            4.66,
            y + (0.95 if len(said) > 36 else 0.88),
            "#d8ecf8",
            "#9cc7e3",
            "right",
        )
        show(look.drawing, 4.98, y, 1.06)
        figure.add_artist(
            Rectangle(
                (4.98 / wide, 1 - (y + 1.17) / height),
                1.06 / wide,
                0.07 / height,
                transform=figure.transFigure,
                facecolor="#e3e8ed",
            )
        )
        figure.add_artist(
            Rectangle(
                (4.98 / wide, 1 - (y + 1.17) / height),
                1.06 * (1 - look.gate) / wide,
                0.07 / height,
                transform=figure.transFigure,
                facecolor=plots.BLUE,
            )
        )
        write(f"trusted {100 * (1 - look.gate):.0f} %", 4.98, y + 1.28, fontsize=8.5, color=quiet)
        for name, x in starts.items():
            place = look.place(name, target)
            for i, number in enumerate(look.best(name, 4)):
                show(
                    searcher.picture(number),
                    x + 0.6 * i,
                    y,
                    0.57,
                    plots.GREEN if number == target else None,
                )
            won = place <= TOP
            write(
                f"the hidden one is at place {place:,}",
                x,
                y + 0.8,
                fontsize=9.5,
                weight="bold" if won else "normal",
                color="#05603a" if won else ink,
            )
            if won:
                write(
                    "found" if place == 1 else "in the top ten: found",
                    x,
                    y + 1.03,
                    fontsize=9,
                    color="#05603a",
                )
    return figure
