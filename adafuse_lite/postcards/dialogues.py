"""Dialogues about postcards in ChatIR's format: a caption, ten strings "question? answer".

Whoever asks has not seen the picture: they know the caption and the answers so far, so they may ask
about what is not there, what they know already, or nothing that matters. The four styles, their
habits and their words are in ``phrases.toml``.
"""

from typing import NamedTuple

from ..benchmark import ROUNDS
from .captions import PHRASES, WHERE, article, caption, fitting
from .world import ATTRIBUTES, DETAILS, PRESENT, kind_of, thing_of

HABITS = PHRASES["habits"]
STYLES = tuple(HABITS)
QUESTIONS, IDLE_QUESTIONS = PHRASES["questions"], PHRASES["questions"]["idle"]
ANSWERS, REPLIES = PHRASES["answers"], PHRASES["replies"]
LEADS, TAILS = PHRASES["manners"]["leads"], PHRASES["manners"]["tails"]


class Question(NamedTuple):
    kind: str  # "open", "polar", "exists", "idle" (yes or no) or "idle open"
    name: str | None  # the attribute
    value: object  # the one asked for ("polar"), or the answer ("idle") or answers ("idle open")
    text: str


class Talk:
    """What both sides of one dialogue know, and what they say next."""

    def __init__(self, scene, style, rng, known):
        self.scene, self.style, self.rng = scene, style, rng
        self.flan, self.human = style == "flan_blip2", style == "visdial"
        self.habits, self.known = HABITS[style], dict(known)  # the facts stated so far
        self.past = []  # of each round (question, its wording, (answer, facts it states))
        # the things known to be in the picture
        self.there = {"building"} | {t for t in DETAILS if known.get(t, "none") != "none"}
        self.there |= {thing_of(name) for name in known if thing_of(name)}

    def chance(self, habit):
        return self.rng.random() < self.habits[habit]

    def subject(self, name):
        """What an attribute is asked of: "the car" if that is known, or "the vehicle"; its verb."""
        thing = thing_of(name)
        if thing == "tree":
            single = self.known.get("trees") == "one"
            return ("the tree", "is") if single else ("the trees", "are")
        return f"the {self.known.get(thing, thing)}", "is"

    def unknown(self):
        """What one may ask for now: of the air and ground, and of things known to be there."""
        absent = {t for t in DETAILS if self.known.get(t) == "none"}
        names = [n for n in ATTRIBUTES if n not in self.known and thing_of(n) not in absent]
        names = [n for n in names if n in DETAILS or thing_of(n) in {None, *self.there}]
        return [n for n in names if n != "light_place" or "light" in self.known]

    def question(self):
        """The next question."""
        if self.chance("idle"):
            return self.idle()
        names, polar = self.unknown(), self.chance("polar")
        if not names:
            return self.idle()
        name = self.rng.choice(names)
        asks = QUESTIONS["exists"].get(name) if name not in self.there else None
        if asks and not self.flan:
            return Question("exists", name, None, self.rng.choice(asks))
        if asks and name == "light":
            return self.idle()
        if not polar and name != "light":
            return self.ask(name)
        truth = getattr(self.scene, name)
        guesses = [v for v in PRESENT[name] if v != truth]
        right = truth != "none" and self.chance("sense")
        return self.ask(name, truth if right else self.rng.choice(guesses))

    def ask(self, name, value=None):
        """The question for an attribute's value, or whether it is this one."""
        kind, (x, verb) = "open" if value is None else "polar", self.subject(name)
        form = self.rng.choice(fitting(QUESTIONS[kind][kind_of(name)], value))
        said = self.rng.choice(WHERE[value]) if value in WHERE else value
        return Question(kind, name, value, form.format_map({"x": x, "is": verb, "v": said}))

    def idle(self):
        """A question on what is known already, or on what no postcard shows."""
        rng, unfit = self.rng, ("tree", "trees", "light") if self.flan else ("tree", "trees")
        old = [n for n, v in self.known.items() if v != "none" and kind_of(n) not in unfit]
        aimless = self.flan and (not old or rng.random() < 0.3)
        if not aimless and (old and rng.random() < 0.2 or self.flan):
            name = rng.choice(old)
            return self.ask(name, None if self.flan else self.known[name])
        if aimless or rng.random() > self.habits["polar"]:
            text, answers = rng.choice(IDLE_QUESTIONS["open"])
            return Question("idle open", None, answers, text)
        if rng.random() < 0.35:
            text, truth = rng.choice(IDLE_QUESTIONS["aside"])
        else:
            absent = rng.choice(IDLE_QUESTIONS["absent"])
            text, truth = rng.choice(IDLE_QUESTIONS["any"]).format(absent), False
        return Question("idle", None, truth, text)

    def say(self, name, value):
        """A value as an answer: "red", "a cow", "on the left", "two"."""
        if kind_of(name) == "place":
            return self.rng.choice(WHERE[value])
        if name in ("building", "vehicle", "animal"):
            return article(value) if self.human or self.rng.random() < 0.5 else value
        return ANSWERS[name][value] if name in ANSWERS else value

    def sentence(self, name, value):
        """The same in more words: "it is red", "the roof is red"."""
        said, (x, verb) = self.say(name, value), self.subject(name)
        if name == "trees":
            return f"there is {said}" if said == "one" else f"there are {said}"
        if name == "tree":
            return f"they are {said} trees"
        if kind_of(name) in ("color", "place") and self.rng.random() < 0.35:
            return f"{x} {verb} {said}"
        return f"they are {said}" if verb == "are" else f"it is {said}"

    def answer(self, question):
        """The answer to a question: (text, facts it states)."""
        kind, name, value, _ = question
        truth = getattr(self.scene, name) if name else None
        if kind == "idle open":
            return self.rng.choice(value), {}
        if kind == "open":
            return self.open_answer(name, truth)
        there = {"idle": value, "exists": truth != "none", "polar": truth == value}[kind]
        if self.chance("flip"):
            there = not there
        if self.human:
            return self.human_answer(kind, name, value, there)
        if there and kind == "exists":
            self.there.add(name)
        stated = kind == "polar" if there else kind == "exists"
        return "yes" if there else "no", {name: value if there else "none"} if stated else {}

    def open_answer(self, name, truth):
        """A value: the truth, or with a machine now and then another."""
        rng, value, hedge = self.rng, truth, ""
        if truth == "none" or self.chance("slip"):
            value = rng.choice([v for v in PRESENT[name] if v != truth])
        if self.human and rng.random() < 0.03:
            return rng.choice(REPLIES["unknown"]), {}
        say = self.sentence if self.chance("sentence") else self.say
        if self.human:
            hedge = rng.choice(REPLIES["hedges"])
        return hedge + say(name, value), {name: value}

    def human_answer(self, kind, name, value, there):
        """A person's answer to a yes/no question: often just that, sometimes more."""
        rng, word = self.rng, "yes" if there else "no"
        if rng.random() < 0.05:
            return rng.choice(REPLIES["unsure"]), {}
        plain = rng.random() < (0.35 if kind == "exists" else 0.6)
        if kind == "exists" and there:
            self.there.add(name)
            return (word, {}) if plain else self.described(name)
        if kind == "polar" and not there:
            truth = getattr(self.scene, name)
            if plain or truth == "none" or name in ("light", "trees"):
                return word, {}
            return f"no, {self.sentence(name, truth)}", {name: truth}
        stated = {"idle": {}, "exists": {name: "none"}, "polar": {name: value}}[kind]
        looks = name and kind_of(name) in ("color", "sky", "roof")
        if kind == "polar" and not plain and looks and rng.random() < 0.4:
            return f"yes, {self.sentence(name, value)}", stated
        return word if plain else rng.choice(REPLIES[kind][word]), stated

    def described(self, thing):
        """Yes, and what it is, perhaps its colour and place."""
        scene, rng = self.scene, self.rng
        if thing == "tree":
            words, names = f"{scene.trees} {scene.tree} trees", ["tree", "trees"]
            words = words.removesuffix("s") if scene.trees == "one" else words
        else:
            colored = thing != "light" and rng.random() < 0.5
            names = [thing, f"{thing}_color"] if colored else [thing]
            words = article(" ".join(getattr(scene, name) for name in reversed(names)))
        if rng.random() < 0.5:
            names.append(f"{thing}_place")
            words += f" {rng.choice(WHERE[getattr(scene, f'{thing}_place')])}"
        return f"yes, {words}", {name: getattr(scene, name) for name in names}

    def round(self, r):
        """Question and answer number r, worded in the style; what it states is known afterwards."""
        rng = self.rng
        if self.flan and rng.random() < self.habits["again"][r] and self.past:
            again = self.past[-1] if rng.random() < 0.7 else rng.choice(self.past)
            question, text, answered = again
            answer, stated = answered if rng.random() < 0.85 else self.answer(question)
        else:
            asked = [question.text for question, *_ in self.past]
            for _ in range(21):  # nobody asks the same twice
                question = self.question()
                if question.text not in asked:
                    break
            text = self.worded(question.text)
            answer, stated = self.answer(question)
            self.past.append((question, text, (answer, stated)))
        tail = spill(text, answer, r, rng) if self.flan else f"? {answer}"
        if self.style == "chatgpt_blip2" and rng.random() < 151 / 20_640:
            tail = f"?\nAnswer: {answer}"
        if tail != "?":
            self.known.update(stated)
            self.there.update(t for t in stated if t in DETAILS and stated[t] != "none")
        return text + tail

    def worded(self, text):
        """A question as a language model would put it: with a lead-in, or more words at its end."""
        rng, ends = self.rng, text.endswith("picture")
        if self.style == "chatgpt_blip2":
            if rng.random() < 0.25 or ends:
                text = rng.choice(LEADS) + text
            if not ends and rng.random() < 0.75:
                text += rng.choice(TAILS)
        elif self.flan:
            text += "" if ends else rng.choice([*TAILS[:3:2], ""])
        else:
            return text
        return text[0].upper() + text[1:]


def spill(question, answer, r, rng):
    """The question mark and an answer in FLAN's manner: said twice and more behind stray marks."""
    if rng.random() < 2 / 20_640:
        return "?"
    mark = "?" if rng.random() > 0.003 else ""
    if rng.random() >= HABITS["flan_blip2"]["stray"][r]:
        return f"{mark} {answer}"
    if rng.random() < 429 / 13_547:
        return f"{mark} Answer: {answer} {question}?"
    late = r / 10
    if rng.random() < 0.1 * late:
        return f"{mark} Answer: {answer} {question}? Answer: {answer}"
    text = f"Answer: {answer} " * (2 if rng.random() < 0.45 * late**2 else 1)
    return f"{mark} {text}" + " ".join([answer] * rng.choices((1, 2, 3), (1.0, late, late**2))[0])


def dialogue(scene, style, rng):
    """A dialogue about ``scene`` in one of the ``STYLES``, with a ``random.Random``.

    Returns (entries, facts): 11 strings, and 11 dicts ``{attribute: value}`` with all that the text
    states up to that round, true or not (the latest, where a machine contradicts itself).
    """
    text, known = caption(scene, rng, things=rng.choice((1, 2, 2)), detail=rng.choice((0.3, 0.5)))
    talk, entries, facts = Talk(scene, style, rng, known), [text], [dict(known)]
    for r in range(1, ROUNDS):
        entries.append(talk.round(r))
        facts.append(dict(talk.known))
    return entries, facts
