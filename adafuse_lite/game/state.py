"""The state of one game: what was said, what the searcher made of it, how it stands."""

import time
from copy import deepcopy
from dataclasses import dataclass, replace

from ..errors import InputError
from .asking import Answerer, Notes, Question, entry_of
from .searcher import Look
from .seeing import WORDS

LAST_ROUND = 10  # of a game; round 0 is the description
WINS_AT = 10  # the last place that wins
LONGEST = 2_000  # characters of one message that are read


def one_line(text):
    """What was typed as one line, and a remark if not all of it is read."""
    kept = (c if c.isprintable() or c.isspace() else " " for c in str(text))
    line = " ".join("".join(kept).split())
    if len(line) <= LONGEST:
        return line, ""
    return line[:LONGEST], f"Only the first {LONGEST:,} characters of your message are read."


@dataclass(frozen=True)
class Round:
    """One round of a game: what was said, what came of it, and what is asked next."""

    entry: str
    look: Look | None
    question: Question | None  # asked next
    notes: Notes
    rival: Look | None = None  # the machine's game on the same postcard
    seconds: float = 0.0


class Game:
    """One game: ``say`` is the only way forward, the other methods change what is there.

    target: the corpus index of the hidden postcard, with its scene for the machine that plays
    against you; without them the search is free. form: of the questions, "open" or "yes/no"; last:
    the number of the last round.
    """

    def __init__(self, searcher, target=None, scene=None, form="open", seed=0, last=LAST_ROUND):
        if (target is None) != (scene is None):
            raise InputError("Hide and seek needs both, target and scene; a free search neither.")
        self.searcher, self.target, self.scene = searcher, target, scene
        self.form, self.seed, self.last = form, seed, last
        self.restart()

    def restart(self):
        """Begin again, with the same postcard."""
        self.gate, self.message = None, ""
        # What stands before the first round: nothing but a question.
        self.history = [Round("", None, self.searcher.ask(None, Notes(), self.form), Notes())]

    @property
    def rounds(self):
        """Those that were played."""
        return self.history[1:]

    @property
    def question(self):
        """What the searcher asks now, or None."""
        return None if self.over else self.history[-1].question

    @property
    def places(self):
        """{method: the postcard's place at each round}, with the "rival"; {} in a free search."""
        if self.target is None:
            return {}
        place = lambda look, name: look.place(name, self.target)
        methods, leading = self.searcher.methods, self.searcher.leading
        places = {name: [place(r.look, name) for r in self.rounds] for name in methods}
        return places | {"rival": [place(r.rival, leading) for r in self.rounds]}

    def reached(self, who=None):
        """The round (0: the first message) in which the target came into the top ten, or None."""
        places = self.places.get(who or self.searcher.leading, [])
        return next((i for i, place in enumerate(places) if place <= WINS_AT), None)

    @property
    def over(self):
        """Whether the postcard is found or all rounds are played; a free search goes on."""
        all_played = len(self.rounds) > self.last
        return self.target is not None and (all_played or self.reached() is not None)

    @property
    def verdict(self):
        """How the game stands, in a sentence or two."""
        mine, other = self.reached(), self.reached("rival")
        if mine is None:
            verdicts = ["behind"] * (other is not None) + ["end"] * self.over
        else:
            first = other is None or mine < other
            verdicts = ["win" if first else "draw" if mine == other else "loss"]
        return "".join(WORDS["verdicts"][v] for v in verdicts).format(mine=mine, other=other)

    def say(self, text, as_answer=None):
        """Take a message: the answer to the question, or (as_answer=False) a statement of your own.

        The first message is a description unless it is said to be an answer. Returns whether a
        round was played; ``message`` says why not.
        """
        text, self.message = one_line(text)
        if not text or self.over:
            self.message = WORDS["notes"]["over" if text else "empty"]
            return False
        start, before = time.perf_counter(), self.history[-1]
        is_answer = before.look is not None if as_answer is None else as_answer
        asked = before.question if is_answer else None
        entry, notes = entry_of(asked, text), deepcopy(before.notes)
        if asked is not None:
            notes.hear(asked, text)
        elif before.look is not None and before.question is not None:
            notes.asked.add(before.question.text)  # passed over: not asked again
        said = lambda look: look.entries if look else ()
        dialogues = [(*said(before.look), entry)]
        if self.target is not None:  # the machine is asked the same, and answers from the scene
            answerer = Answerer(self.scene, self.target)
            asked = before.question if before.look is not None else asked
            answer = answerer.answer(asked) if asked else answerer.describe()
            dialogues.append((*said(before.rival), entry_of(asked, answer)))
        look, *rivals = self.searcher.look(dialogues, [self.seed] * len(dialogues), self.gate)
        rivals = self.searcher.fuse(rivals) if rivals else [None]  # the machine keeps its own gate
        question = self.searcher.ask(look, notes, self.form)
        seconds = time.perf_counter() - start
        self.history.append(Round(entry, look, question, notes, rivals[0], seconds))
        return True

    def _change_last(self, **parts):
        self.history[-1] = replace(self.history[-1], **parts)

    def undo(self):
        """Take back the last message. Returns whether there was one."""
        self.message = "" if self.rounds else "There is nothing to undo."
        undone = bool(self.rounds and self.history.pop())
        self.set_gate(self.gate)
        return undone

    def draw_again(self):
        """Draw the same words from another noise, and rank anew. Returns whether there were any."""
        self.message = "" if self.rounds else "There is nothing to draw yet."
        if not self.rounds:
            return False
        self.seed += 1
        entries = self.history[-1].look.entries
        self._change_last(look=self.searcher.look([entries], [self.seed], self.gate)[0])
        return True

    def set_gate(self, gate=None):
        """Weigh the text with ``gate`` (0 to 1) from this round on, or (None) as the head says."""
        if gate is not None and not 0 <= gate <= 1:
            raise InputError(f"The gate {gate} is not between 0 and 1: the weight of the text.")
        self.gate = gate
        if self.rounds:
            self._change_last(look=self.searcher.fuse([self.history[-1].look], gate)[0])

    def set_form(self, form):
        """Ask "open" questions from now on, or "yes/no" ones; the one that stands is asked anew."""
        self.form, last = form, self.history[-1]
        self._change_last(question=self.searcher.ask(last.look, last.notes, form))
