"""Asking and answering: what to ask next, what an answer settles, and who answers from a scene."""

import random
import re
from dataclasses import dataclass, field

import torch

from ..postcards.captions import PHRASES, STATEMENTS, WHERE, article, caption, fitting, several
from ..postcards.world import ATTRIBUTES, kind_of, thing_of
from ..reformulate import UNSURE
from .seeing import WORDS, entropy

OPEN, EXISTS, POLAR = (PHRASES["questions"][form] for form in ("open", "exists", "polar"))
DONT_KNOW = "i can't tell"
YES = re.compile(r"^\W*(yes|yeah|yep|i think so|it is|they are)\b")
NO = re.compile(r"^\W*(no|nope|not|none|nothing|there (is|are) (no|none))\b")


@dataclass(frozen=True)
class Question:
    """About the attribute ``name``; ``bits``: how much its answer should tell."""

    name: str
    form: str  # "open" (which value?), "exists" (is there any?) or "polar" (is it ``value``?)
    text: str
    value: str | None = None
    bits: float = 0.0

    @property
    def choices(self):
        """Answers to choose from, in words."""
        values = [reply(self.name, v) for v in ATTRIBUTES[self.name] if v != "none"]
        if self.form == "open":
            return values
        return [f"yes, {v}" for v in values] + ["no"] if self.form == "exists" else ["yes", "no"]


def entry_of(question, answer):
    """As ChatIR writes it: "what color is the sky? blue"; without a question what was said."""
    return f"{question.text} {answer}" if question else answer


def reply(name, value):
    """A value as an answer: "red", "a cow", "on the left", "raining"."""
    if kind_of(name) == "place":
        return WHERE[value][0]
    if name == "tree":
        return f"{value} trees"
    if name in ("building", "vehicle", "animal", "light"):
        return article(value)
    return PHRASES["answers"].get(name, {}).get(value, value)


@dataclass
class Notes:
    """What a questioner remembers of one dialogue: its questions and what the answers settled."""

    asked: set = field(default_factory=set)  # texts of questions
    known: dict = field(default_factory=dict)  # attribute: value, None if told in other words
    not_so: dict = field(default_factory=dict)  # attribute: values that were denied
    there: set = field(default_factory=lambda: {"building"})
    gone: set = field(default_factory=set)  # things that are absent

    def hear(self, question, answer):
        """Note the answer to a question."""
        self.asked.add(question.text)
        name, thing, words = question.name, thing_of(question.name), answer.lower()
        if UNSURE.search(words):
            self.known.setdefault(name, None)  # no use to ask in another form
            return
        means = lambda value: re.search(rf"\b({WORDS['meant'].get(value, value)})", words)
        value = next(filter(means, ATTRIBUTES[name]), None)
        yes, no, polar = YES.search(words), NO.search(words), question.form == "polar"
        if no and not polar and thing in STATEMENTS["none"]:
            self.gone.add(thing)
            return
        if no and polar and value in (None, question.value):
            self.not_so.setdefault(name, set()).add(question.value)
            return
        if thing:
            self.there.add(thing)
        if yes and polar:
            value = question.value
        if value or question.form != "exists":
            self.known[name] = value
        if name == "tree" and (number := re.search(r"\b(one|two|three|an?)\b", words)):
            self.known["trees"] = number[1] if number[1] in ATTRIBUTES["trees"] else "one"


class Questioner:
    """Chooses questions by what an encoder sees in the pictures; it knows no scene.

    seen: {attribute: how likely its values are in each picture [N, values]}.
    """

    def __init__(self, seen):
        self.seen = seen

    def ask(self, likely, weights, notes, form="open", order=None):
        """The question whose answer should tell most about which picture is meant, or None.

        likely [n]: which pictures may be, weights [n]: how likely each is. form: "open", "yes/no".
        order: a list of attributes to ask about one after the other instead.
        """
        rating = lambda q: q.bits if order is None else -order.index(q.name)
        return max(self.options(likely, weights, notes, form), key=rating, default=None)

    def options(self, likely, weights, notes, form="open"):
        """All questions that make sense now, each with the information it should bring, in bits."""
        seen = {name: p[likely] for name, p in self.seen.items()}
        shares = {name: weights @ p for name, p in seen.items()}
        questions = [
            Question(name, kind, text + "?", value, information(answers, weights))
            for name, p in seen.items()
            for kind, text, value, answers in to_ask(name, p, shares, notes, form)
        ]
        return [q for q in questions if q.text not in notes.asked]


def to_ask(name, p, shares, notes, form):
    """What to ask about an attribute: yields (form, text, value, probabilities [n, answers]).

    p [n, values]: what is seen in the likely pictures, shares: {attribute: [values]} of them all.
    """
    thing = thing_of(name)
    if name in notes.known or thing in notes.gone:
        return
    all_but_sure = thing not in shares or shares[thing][0] < 0.1  # [0]: there is none
    if not (thing is None or thing in notes.there or all_but_sure):
        if name in EXISTS:  # a person who is asked whether there is a vehicle says which
            answers = p if form == "open" else torch.stack([p[:, 0], 1 - p[:, 0]], 1)
            yield "exists", EXISTS[name][0], None, answers
        return
    subject = noun(thing, shares, notes)
    if form == "open":
        forms = OPEN.get(kind_of(name), ["what kind of light is there"])
        yield "open", forms[0].format(**subject), None, p
        return
    values, denied = ATTRIBUTES[name], notes.not_so.get(name, ())
    left = 1 - p[:, [i for i, value in enumerate(values) if value in denied]].sum(1)
    for value, share in zip(values, p.T):
        if value != "none" and value not in denied:
            yes = (share / left.clamp(min=1e-6)).clamp(0, 1)
            said = WHERE[value][0] if kind_of(name) == "place" else value
            text = fitting(POLAR[kind_of(name)], value)[0].format(v=said, **subject)
            yield "polar", text, value, torch.stack([yes, 1 - yes], 1)


def noun(thing, shares, notes):
    """{"x": the noun, "is": its verb}: "the car" if said or all but sure, else "the vehicle"."""
    name = "trees" if thing == "tree" else thing
    kind = notes.known.get(name)
    if not kind and name in shares and shares[name].max() > 0.8:
        seems = ATTRIBUTES[name][shares[name].argmax()]
        kind = seems if seems not in notes.not_so.get(name, ()) else None
    if thing == "tree":
        return {"x": "the tree", "is": "is"} if kind == "one" else {"x": "the trees", "is": "are"}
    if kind in (None, "none"):
        kind = "sun or moon" if thing == "light" else thing
    return {"x": f"the {kind}", "is": "is"}


def information(p, weights):
    """What an answer tells about which picture is meant, in bits: p [n, answers], weights [n].

    The entropy of the answer, less the part of it that is only the encoder's doubt about a picture.
    """
    return ((entropy(weights @ p) - weights @ entropy(p)) / torch.tensor(2.0).log()).item()


class Answerer:
    """Describes one scene and answers truthfully, in few words, as people in the dialogues do."""

    def __init__(self, scene, seed=0):
        self.scene, self.rng = scene, random.Random(f"answerer/{seed}")

    def describe(self):
        """A short description to begin with."""
        things, detail = self.rng.choice((1, 2, 2)), self.rng.choice((0.3, 0.5))
        return caption(self.scene, self.rng, things, detail)[0]

    def answer(self, question):
        """The true answer to a question, as a text."""
        name, value = question.name, getattr(self.scene, question.name)
        if question.form == "polar":
            return "yes" if value == question.value else "no"
        exists = question.form == "exists"
        if value == "none":
            return ("no, " if exists else "can't tell, ") + STATEMENTS["none"][thing_of(name)][0]
        trees = exists and name == "tree"
        said = several(value, self.scene.trees) if trees else reply(name, value)
        return f"yes, {said}" if exists else said
