"""A search played as a game: who asks, who answers, and what the searcher makes of it round by round. No widgets here.

    python -m adafuse_lite.game        plays the 200 games whose results are bundled, and stores them (5 minutes)

``Searcher`` turns dialogues into drawings, queries and places; ``Questioner`` decides what to ask, from the encoder's own
view of the pictures that the searcher holds likely; ``Answerer`` answers from a scene; ``Game`` is the state of one game
that a person plays, and ``play`` plays many at once without one.
"""

import json
import random
import re
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from tqdm.auto import tqdm

from ..postcards.captions import WHERE, article, caption
from ..postcards.dialogues import EXISTS, NAMES, OPEN, POLAR, kind_of, thing_of
from ..errors import InputError
from ..files import read_json
from ..fusion import DAR, AdaFuSE, TextOnly
from ..names import DATA
from ..reformulate import UNSURE, rewrite
from ..postcards.world import ATTRIBUTES, DETAILS

TOP = 10  # the place that wins a game
ROUNDS = 10  # answers in a game, after the description
CANDIDATES = 500  # pictures that a question is chosen for
LONGEST = 2_000  # characters of one message that are read
DONT_KNOW = "i can't tell"

# --- what the encoder sees in a picture ------------------------------------------------------------------------------
KINDS = {thing: tuple(v for v in ATTRIBUTES[thing] if v != "none") for thing in DETAILS}
NONE = {
    "light": "there is no sun or moon",
    "tree": "there are no trees",
    "vehicle": "there is no vehicle",
    "animal": "there is no animal",
}
SAID = {
    "fair": ("the weather is fair", "the sky is clear"),
    "cloudy": ("it is cloudy", "white clouds"),
    "rainy": ("it is raining", "falling rain"),
    "snowy": ("it is snowing", "falling snow"),
    "grass": ("on the grass", "the ground is grass"),
    "sand": ("on the sand", "the ground is sand"),
    "snow": ("on the snow", "the ground is covered in snow"),
    "earth": ("on brown earth", "the ground is bare earth"),
}
# How sharply similarities become probabilities, by attribute: chosen by ``calibrate`` on the validation postcards. The higher it
# stands, the less the encoder can tell: it is all but blind for animals and for where things are.
TEMPERATURES = {
    "sky": 0.02,
    "weather": 0.005,
    "light": 0.005,
    "light_place": 0.01,
    "ground": 0.005,
    "building": 0.01,
    "wall": 0.03,
    "roof": 0.02,
    "building_place": 0.04,
    "tree": 0.01,
    "trees": 0.01,
    "tree_place": 0.015,
    "vehicle": 0.015,
    "vehicle_color": 0.03,
    "vehicle_place": 0.015,
    "animal": 0.12,
    "animal_color": 0.06,
    "animal_place": 0.24,
}
GRID = (0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.24, 0.5)


def phrases(name, value):
    """Texts that would fit a picture in which attribute ``name`` has this value: "a red barn", "it is raining"."""
    thing = thing_of(name)
    if value == "none":
        return (NONE[thing],)
    kinds = KINDS.get(thing, ())
    if name == "sky":
        return f"a {value} sky", f"the sky is {value}", f"under a {value} sky"
    if value in SAID and name in ("weather", "ground"):
        return SAID[value]
    if name == "light":
        return f"the {value}", f"there is a {value}"
    if name == "tree":
        return tuple(several(value, n) for n in ("one", "two", "three"))
    if name == "trees":
        return tuple(several(kind, value) for kind in kinds)
    if name == "roof":
        return (
            *(f"{article(kind)} with {article(value)} roof" for kind in kinds),
            f"the roof is {value}",
        )
    if kind_of(name) == "color":
        return tuple(article(f"{value} {kind}") for kind in kinds)
    if kind_of(name) == "place":
        things = (
            [several(kind, n) for kind in kinds for n in ("one", "two", "three")]
            if thing == "tree"
            else map(article, kinds)
        )
        return tuple(f"{x} {WHERE[value][0]}" for x in things)
    return (article(value),)


def several(kind, number):
    return article(f"{kind} tree") if number == "one" else f"{number} {kind} trees"


def similarities(encoder, features, name):
    """For each value of an attribute the similarities [N, phrases] of pictures with the value's phrases."""
    return [
        features @ encoder.encode_text(phrases(name, value)).to(features.device).T
        for value in ATTRIBUTES[name]
    ]


def log_probabilities(similar, temperature):
    """[N, values]: a softmax over values; of a value's phrases the one that fits counts most."""
    return torch.stack(
        [(s / temperature).logsumexp(1) - torch.tensor(float(s.shape[1])).log() for s in similar], 1
    ).log_softmax(1)


def calibrate(encoder, features, scenes, grid=GRID):
    """The temperature with the best log-likelihood for each attribute, and how well its values are then read.

    Returns {attribute: {"temperature", "accuracy", "chance", "left"}}; ``left`` is the share of the attribute's uncertainty that
    is left when the encoder has looked (0: it reads it, 1: it is blind for it).
    """
    codes, found = torch.tensor([scene.codes() for scene in scenes]), {}
    for column, name in enumerate(ATTRIBUTES):
        similar, truth = similarities(encoder, features, name), codes[:, column]
        share = torch.bincount(truth, minlength=len(ATTRIBUTES[name])) / len(truth)
        tries = []
        for temperature in grid:
            log_p = log_probabilities(similar, temperature)
            tries.append(
                (
                    -log_p.gather(1, truth[:, None]).mean().item(),
                    temperature,
                    (log_p.argmax(1) == truth).float().mean().item(),
                )
            )
        loss, temperature, accuracy = min(tries)
        found[name] = {
            "temperature": temperature,
            "accuracy": accuracy,
            "chance": share.max().item(),
            "left": loss / entropy(share).item(),
        }
    return found


def entropy(p):
    """Of distributions along the last axis, in nats."""
    return -torch.special.xlogy(p, p).sum(-1)


# --- asking ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Question:
    """``form``: "open" (which value?), "exists" (is there any?) or "polar" (is it ``value``?); ``bits``: what it should tell."""

    name: str
    form: str
    text: str
    value: str | None = None
    bits: float = 0.0

    @property
    def choices(self):
        """Answers to choose from, in words."""
        if self.form == "polar" or self.form == "exists" and self.name not in KINDS:
            return ["yes", "no"]
        if self.form == "exists":
            return ["yes, " + reply(self.name, v) for v in KINDS[self.name]] + ["no"]
        return [reply(self.name, v) for v in ATTRIBUTES[self.name] if v != "none"]


def reply(name, value):
    """A value as an answer: "red", "a cow", "on the left", "raining"."""
    if kind_of(name) == "place":
        return WHERE[value][0]
    if name == "tree":
        return f"{value} trees"
    if name in NAMES:
        return NAMES[name][value]
    return article(value) if name in ("building", "vehicle", "animal", "light") else value


# Words in a free answer from which the questioner sees what was meant; a value not listed is meant by its own name.
MEANT = {
    "fair": "fair|clear|nice|sunny|fine",
    "cloudy": "cloud",
    "rainy": "rain",
    "snowy": "snow",
    "earth": "earth|soil|mud|dirt",
    "grey": "grey|gray",
    "one": "one|an? (?:pine|oak|palm)",
    "left": "left",
    "right": "right",
    "middle": "middle|cent(?:er|re)",
}
YES, NO = (
    re.compile(r"^\W*(yes|yeah|yep|i think so|it is|they are)\b"),
    re.compile(r"^\W*(no|nope|not|none|nothing|there (is|are) (no|none))\b"),
)


@dataclass
class Notes:
    """What a questioner remembers of one dialogue: its questions and what the answers settled."""

    asked: set = field(default_factory=set)  # texts of questions
    known: dict = field(
        default_factory=dict
    )  # attribute: its value, or None where it was answered in other words
    not_so: dict = field(default_factory=dict)  # attribute: values that were denied
    there: set = field(default_factory=lambda: {"building"})
    gone: set = field(default_factory=set)  # things that are absent

    def hear(self, question, answer):
        """Note the answer to a question."""
        self.asked.add(question.text)
        name, words = question.name, answer.lower()
        thing = thing_of(name)
        if UNSURE.search(words):
            self.known.setdefault(name, None)  # no use to ask in another form
            return
        value = next(
            (v for v in ATTRIBUTES[name] if re.search(rf"\b({MEANT.get(v, v)})", words)), None
        )
        yes, no = bool(YES.search(words)), bool(NO.search(words))
        if no and question.form != "polar" and thing in NONE:
            self.gone.add(thing)
        elif question.form == "polar" and no and value in (None, question.value):
            self.not_so.setdefault(name, set()).add(question.value)
        else:
            if thing:
                self.there.add(thing)
            if question.form == "polar" and yes:
                value = question.value
            if question.form != "exists" or value:
                self.known[name] = value
            number = re.search(r"\b(one|two|three|an?)\b", words) if name == "tree" else None
            if number:
                self.known["trees"] = {"a": "one", "an": "one"}.get(number[1], number[1])


class Questioner:
    """Chooses questions for pictures with these features, by what the encoder sees in them; it knows no scene.

    names: the attributes it may ask about (all of ``world.ATTRIBUTES``).
    """

    def __init__(self, encoder, features, names=tuple(ATTRIBUTES), temperatures=TEMPERATURES):
        self.seen = {
            name: log_probabilities(similarities(encoder, features, name), temperatures[name]).exp()
            for name in names
        }
        self.size = len(features)

    def ask(self, likely, weights, notes, form="open", order=None):
        """The next question: the one whose answer should tell most about which of the likely pictures is meant; None if there is none.

        likely [n]: places in the corpus, weights [n]: how likely each is. ``form``: "open" or "yes/no". ``order``: a list of
        attributes to ask about one after the other instead.
        """
        options = self.options(likely, weights, notes, form)
        if order is not None:
            return min(options, key=lambda q: order.index(q.name), default=None)
        return max(options, key=lambda q: q.bits, default=None)

    def options(self, likely, weights, notes, form="open"):
        """All questions that make sense now, each with the information it should bring, in bits."""
        rows = {name: seen[likely] for name, seen in self.seen.items()}
        mean = {name: weights @ p for name, p in rows.items()}
        found = []
        for name, p in rows.items():
            thing, values = thing_of(name), ATTRIBUTES[name]
            if name in notes.known or thing in notes.gone:
                continue
            sure = (
                thing is None or thing in notes.there or thing not in mean or mean[thing][0] < 0.1
            )  # [0]: none
            if not sure and name not in EXISTS:
                continue
            x, verb = self.noun(thing, notes, mean)
            if form == "open" or not sure:
                forms = (
                    OPEN.get(kind_of(name), ("what kind of light is there",))
                    if sure
                    else EXISTS[name]
                )
                # A person who is asked whether there is a vehicle says which.
                parts = p if form == "open" else torch.stack([p[:, 0], 1 - p[:, 0]], 1)
                text = forms[0].format(x=x, **{"is": verb}) + "?"
                found.append(
                    Question(
                        name, "open" if sure else "exists", text, bits=information(parts, weights)
                    )
                )
            else:
                for place, value in enumerate(values):
                    if value == "none" or value in notes.not_so.get(name, ()):
                        continue
                    said = WHERE[value][0] if kind_of(name) == "place" else value
                    forms = POLAR[kind_of(name)]
                    text = (forms[value] if isinstance(forms, dict) else forms)[0].format(
                        x=x, v=said, **{"is": verb}
                    ) + "?"
                    yes = p[:, place]
                    if denied := [values.index(v) for v in notes.not_so.get(name, ())]:
                        yes = yes / (1 - p[:, denied].sum(1)).clamp(min=1e-6)
                    yes = yes.clamp(0, 1)
                    found.append(
                        Question(
                            name,
                            "polar",
                            text.replace("a oak", "an oak"),
                            value,
                            information(torch.stack([yes, 1 - yes], 1), weights),
                        )
                    )
        return [q for q in found if q.text not in notes.asked]

    @staticmethod
    def noun(thing, notes, mean):
        """ "the car" where that was said or nearly all likely pictures show one, else "the vehicle"; and its verb."""
        if thing is None:
            return "", "is"
        seems = {name: ATTRIBUTES[name][p.argmax()] for name, p in mean.items() if p.max() > 0.8}
        said = lambda name: (
            notes.known.get(name)
            or (seems.get(name) if seems.get(name) not in notes.not_so.get(name, ()) else None)
        )
        if thing == "tree":
            return ("the tree", "is") if said("trees") == "one" else ("the trees", "are")
        kind = said(thing)
        return (
            f"the {kind if kind and kind != 'none' else 'sun or moon' if thing == 'light' else thing}",
            "is",
        )


def information(p, weights):
    """What an answer tells about which picture is meant, in bits: p [n, answers] by picture, weights [n].

    The entropy of the answer, less the part of it that is only the encoder's doubt about each picture.
    """
    return ((entropy(weights @ p) - weights @ entropy(p)) / torch.tensor(2.0).log()).item()


# --- answering -------------------------------------------------------------------------------------------------------
class Answerer:
    """Describes one scene and answers truthfully, in few words, as people in the dialogues do."""

    def __init__(self, scene, seed=0):
        self.scene, self.rng = scene, random.Random(f"answerer/{seed}")

    def describe(self):
        """A short description to begin with."""
        return caption(
            self.scene,
            self.rng,
            things=self.rng.choice((1, 2, 2)),
            detail=self.rng.choice((0.3, 0.5)),
        )[0]

    def answer(self, question):
        scene, name, value = self.scene, question.name, getattr(self.scene, question.name)
        if question.form == "polar":
            return "yes" if value == question.value else "no"
        if value == "none":
            none = NONE[thing_of(name)]
            return f"no, {none}" if question.form == "exists" else f"can't tell, {none}"
        if question.form == "exists":
            return (
                f"yes, {several(scene.tree, scene.trees) if name == 'tree' else reply(name, value)}"
            )
        return reply(name, value)


# --- searching -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Look:
    """What the searcher makes of one dialogue at one round."""

    entries: tuple
    prompt: str
    seed: int
    drawing: object  # PIL.Image
    text: torch.Tensor  # [D] features of the dialogue
    image: torch.Tensor  # [D] features of the drawing
    scores: dict  # method: scores [N] of all pictures
    gate: float | None  # the head's own weight of the text
    used: float | None  # the weight that was used: the player may set another
    routing: tuple  # share of each expert
    cut: bool  # the encoder did not read all of the text
    prompt_cut: bool  # the generator did not read all of the prompt

    def best(self, method, k=3):
        """Places in the corpus of the first k pictures."""
        return self.scores[method].topk(min(k, len(self.scores[method]))).indices.tolist()

    def place(self, method, target):
        """The place of a picture, 1 for the first."""
        return int((self.scores[method] > self.scores[method][target]).sum()) + 1


def prompt_of(entries):
    """What is drawn."""
    return rewrite(entries, statements=True)


class Searcher:
    """Encoder, generator, fusions and a corpus: dialogues in, ``Look`` s out.

    features [N, D]: the pictures' features, ``picture``: a function from a place in the corpus to a ``PIL.Image``. ``head``: an
    ``AdaFuSE`` trained for this encoder, or None where there is none.
    """

    def __init__(self, encoder, generator, head, features, picture, names=tuple(ATTRIBUTES)):
        if head is not None:
            head.check_encoder(encoder.hash)
        self.encoder, self.generator, self.head, self.picture = encoder, generator, head, picture
        self.features = features.float().to(encoder.device)
        self.methods = {"TextOnly": TextOnly(), "DAR": DAR()} | (
            {"AdaFuSE": head.to(encoder.device)} if head is not None else {}
        )
        for model in self.methods.values():
            model.to(encoder.device).eval()
        self.leading = list(self.methods)[-1]  # the method whose candidates the questions are about
        # As in training, where the head learnt at which scale its scores are logits.
        self.scale = head.logit_scale.exp().item() if head is not None else 40.0
        self.questioner = Questioner(encoder, self.features, names)
        self.lock = threading.RLock()  # pipelines are not made for two threads

    @classmethod
    def postcards(cls, benchmark, features, encoder=None, generator=None, head=None):
        """The bundled models over the postcards of a benchmark, whose features a bank holds."""
        from ..encoders import load_encoder
        from ..generators import load_generator

        encoder, generator = (
            encoder or load_encoder("postcards"),
            generator or load_generator("postcards"),
        )
        head = head or AdaFuSE.from_pretrained("postcards")
        return cls(
            encoder,
            generator,
            head,
            features,
            lambda place: benchmark.picture(benchmark.corpus[place]),
        )

    @classmethod
    def photos(
        cls,
        index,
        benchmark,
        encoder,
        generator,
        head=None,
        names=("sky", "weather", "light", "ground", "tree", "vehicle", "animal"),
    ):
        """Photographs: a ``PictureIndex`` that this encoder made of the pictures of ``benchmark``."""
        index.check(encoder)
        return cls(
            encoder,
            generator,
            head,
            index.features,
            lambda place: benchmark.picture(index.names[place]),
            names,
        )

    def look(self, dialogues, seeds, gate=None):
        """A ``Look`` for each dialogue (a tuple of entries), all drawn and encoded together."""
        with self.lock:
            prompts = [prompt_of(entries) or "a postcard" for entries in dialogues]
            drawings = self.generator(prompts, seeds=seeds)
            texts = [", ".join(entries) for entries in dialogues]
            text, image = self.encoder.encode_text(texts), self.encoder.encode_images(drawings)
            cut, prompt_cut = self.encoder.cut(texts), self.generator.cut(prompts)
            found = []
            for i, entries in enumerate(dialogues):
                look = Look(
                    tuple(entries),
                    prompts[i],
                    seeds[i],
                    drawings[i],
                    text[i],
                    image[i],
                    {},
                    None,
                    None,
                    (),
                    cut[i],
                    prompt_cut[i],
                )
                found.append(look)
            return self.fuse(found, gate)

    @torch.no_grad()
    def fuse(self, looks, gate=None):
        """The same dialogues and drawings ranked anew, with ``gate`` in place of the head's own weight of the text."""
        with self.lock:
            text, image = (
                torch.stack([x.text for x in looks]),
                torch.stack([x.image for x in looks]),
            )
            rounds = torch.tensor([max(0, len(x.entries) - 1) for x in looks], device=text.device)
            own, scores = None, {}
            for name, model in self.methods.items():
                fused = model(text, image, round=rounds)
                if name == "AdaFuSE":
                    own = fused
                    if gate is not None:
                        hook = model.gate.register_forward_hook(
                            lambda module, inputs, output: torch.full_like(output, float(gate))
                        )
                        try:
                            fused = model(text, image)
                        finally:
                            hook.remove()
                scores[name] = (fused.query @ self.features.T).cpu()
            return [
                replace(
                    x,
                    scores={name: s[i] for name, s in scores.items()},
                    gate=own and own.gate[i].item(),
                    used=own and (own.gate[i].item() if gate is None else float(gate)),
                    routing=tuple(own.routing[i].tolist()) if own else (),
                )
                for i, x in enumerate(looks)
            ]

    def likely(self, look=None):
        """The pictures that may be meant [n] and how likely each is [n]; without a look all are alike."""
        if look is None:
            n = min(len(self.features), 4 * CANDIDATES)
            return torch.arange(n), torch.full((n,), 1 / n)
        scores, places = look.scores[self.leading].topk(min(CANDIDATES, len(self.features)))
        return places, (self.scale * scores).softmax(0)

    def ask(self, look, notes, form="open", order=None):
        """The next ``Question`` for this look, or None."""
        places, weights = self.likely(look)
        return self.questioner.ask(
            places.to(self.features.device), weights.to(self.features.device), notes, form, order
        )


def entry_of(question, answer):
    """As ChatIR writes it: "what color is the sky? blue"."""
    return f"{question.text} {answer}" if question else answer


# --- one game --------------------------------------------------------------------------------------------------------
def tidy(text):
    """What was typed as one line, and a remark if not all of it is read."""
    text = " ".join(
        "".join(c if c.isprintable() or c.isspace() else " " for c in str(text)).split()
    )
    if len(text) > LONGEST:
        return text[:LONGEST], f"Only the first {LONGEST:,} characters of your message are read."
    return text, ""


@dataclass(frozen=True)
class Round:
    """One round of a game: what was said, what came of it, and what is asked next."""

    entry: str
    look: Look
    question: Question | None  # asked next
    notes: Notes
    rival: Look | None = None  # the machine's game on the same postcard
    seconds: float = 0.0


class Game:
    """The state of one game. ``target``: the place in the corpus of the hidden postcard, with its ``scene`` for the machine that
    plays against you; without it the search is free.

    ``say`` is the only way forward; ``undo``, ``restart``, ``draw_again`` and ``set_gate`` change what is there.
    """

    def __init__(self, searcher, target=None, scene=None, form="open", seed=0, rounds=ROUNDS):
        if (target is None) != (scene is None):
            raise InputError(
                "A game of hide and seek needs both, target and scene; a free search neither."
            )
        self.searcher, self.target, self.scene, self.form, self.seed, self.limit = (
            searcher,
            target,
            scene,
            form,
            seed,
            rounds,
        )
        self.restart()

    def restart(self):
        """Begin again, with the same postcard."""
        self.rounds, self.gate, self.message = [], None, ""
        self.first = self.searcher.ask(None, Notes(), self.form)
        return self

    @property
    def question(self):
        """What the searcher asks now, or None."""
        return None if self.over else self.rounds[-1].question if self.rounds else self.first

    @property
    def places(self):
        """{method: place at each round}, and "rival" for the machine's ADaFuSE; {} in a free search."""
        if self.target is None:
            return {}
        found = {
            name: [r.look.place(name, self.target) for r in self.rounds]
            for name in self.searcher.methods
        }
        return found | {
            "rival": [r.rival.place(self.searcher.leading, self.target) for r in self.rounds]
        }

    def reached(self, who=None):
        """The round in which the target came into the top ten (0: with the first message), or None."""
        places = self.places.get(who or self.searcher.leading, [])
        return next((i for i, place in enumerate(places) if place <= TOP), None)

    @property
    def over(self):
        """Whether the game has ended: the postcard is found, or all rounds are played. A free search goes on."""
        return self.target is not None and (
            self.reached() is not None or len(self.rounds) > self.limit
        )

    @property
    def verdict(self):
        """How the game stands, in a sentence or two."""
        if self.target is None or not self.rounds:
            return ""
        mine, other = self.reached(), self.reached("rival")
        if mine is None:
            there = (
                f"The machine got its postcard into the top ten in round {other}. "
                if other is not None
                else ""
            )
            return there + (
                "All rounds are played and yours is not in the top ten." if self.over else ""
            )
        if other is None or mine < other:
            return f"In the top ten in round {mine}, and the machine is not there yet: you win!"
        return f"In the top ten in round {mine}, " + (
            "as the machine: a draw."
            if mine == other
            else f"the machine in round {other}: it wins."
        )

    def say(self, text, as_answer=None):
        """Take a message: the answer to the question, or (as_answer=False) a statement of your own. Returns whether a round was played.

        Before the first round a message is a description unless it is said to be an answer.
        """
        text, self.message = tidy(text)
        if not text:
            self.message = "There was nothing to read: type something, or choose an answer."
            return False
        if self.over:
            self.message = "This game is over: begin a new one, or undo."
            return False
        start, question = time.perf_counter(), self.question
        answering = question is not None and (bool(self.rounds) if as_answer is None else as_answer)
        entry = entry_of(question if answering else None, text)
        notes = self._notes(question if answering else None, text)
        mine = (*self._entries(), entry)
        jobs = [mine] + ([self._rival(question, answering)] if self.target is not None else [])
        looks = self.searcher.look(jobs, [self.seed] * len(jobs), self.gate)
        if len(looks) > 1:  # the machine keeps its own gate
            looks[1:] = self.searcher.fuse(looks[1:])
        following = self.searcher.ask(looks[0], notes, self.form)
        self.rounds.append(
            Round(
                entry,
                looks[0],
                following,
                notes,
                looks[1] if len(looks) > 1 else None,
                time.perf_counter() - start,
            )
        )
        return True

    def _entries(self):
        return self.rounds[-1].look.entries if self.rounds else ()

    def _notes(self, question, answer):
        old = self.rounds[-1].notes if self.rounds else Notes()
        notes = Notes(
            set(old.asked),
            dict(old.known),
            {k: set(v) for k, v in old.not_so.items()},
            set(old.there),
            set(old.gone),
        )
        if question is not None:
            notes.hear(question, answer)
        elif self.question is not None and self.rounds:
            notes.asked.add(self.question.text)  # passed over: not asked again
        return notes

    def _rival(self, question, answering):
        """The machine's dialogue: it is asked the same, and answers from the scene."""
        answerer = Answerer(self.scene, self.target)
        if not self.rounds and not answering:
            return (answerer.describe(),)
        said = self.rounds[-1].rival.entries if self.rounds else ()
        return (
            *said,
            entry_of(question, answerer.answer(question)) if question else answerer.describe(),
        )

    def undo(self):
        """Take back the last message. Returns whether there was one."""
        self.message = "" if self.rounds else "There is nothing to undo."
        undone = bool(self.rounds and self.rounds.pop())
        self.set_gate(self.gate)
        return undone

    def draw_again(self):
        """Draw what was said from another noise, and rank anew. Returns whether there was something to draw."""
        self.message = "" if self.rounds else "There is nothing to draw yet."
        if not self.rounds:
            return False
        self.seed += 1
        (look,) = self.searcher.look([self._entries()], [self.seed], self.gate)
        self.rounds[-1] = replace(self.rounds[-1], look=look)
        return True

    def set_gate(self, gate=None):
        """Weigh the text with ``gate`` (0 to 1) from this round on, or (None) as the head says."""
        if gate is not None and not 0 <= gate <= 1:
            raise InputError(
                f"The gate {gate} is not between 0 and 1: it is the weight of the text."
            )
        self.gate = gate
        if self.rounds:
            (look,) = self.searcher.fuse([self.rounds[-1].look], gate)
            self.rounds[-1] = replace(self.rounds[-1], look=look)

    def set_form(self, form):
        """Ask "open" questions from now on, or "yes/no" ones; the question that stands is asked anew."""
        self.form = form
        if self.rounds:
            last = self.rounds[-1]
            self.rounds[-1] = replace(last, question=self.searcher.ask(last.look, last.notes, form))
        else:
            self.first = self.searcher.ask(None, Notes(), form)


# --- many games ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Played:
    """Games that ran by themselves.

    ``reached`` {method: [G]}: the round in which the target first came into its top ten, ``rounds`` + 1 where it never did;
    ``dialogues``, ``questions`` (a list a game) and ``looks`` (a list a game, empty unless kept).
    """

    reached: dict
    rounds: int
    dialogues: list
    questions: list
    looks: list

    def wins(self, method):
        """[G, rounds + 1]: whether the target had been in the top ten by then. The last column is what counts as a win."""
        return (self.reached[method][:, None] <= torch.arange(self.rounds + 1)).double()


def play(
    searcher,
    scenes,
    targets,
    rounds=ROUNDS,
    choose="informative",
    form="open",
    seed=0,
    keep=False,
    progress=None,
):
    """Games of the simulated answerer: all games of a round are drawn and encoded together.

    choose: "informative", "fixed" (attributes in the order of ``world.ATTRIBUTES``) or "random" (in an order of each game's own).
    The descriptions are the same for all of them. Every method ranks by the same dialogue; its questions are about the candidates
    of the leading one. A game ends when all methods have the target in their top ten; ``progress`` is called after each round.
    """
    orders = {
        "informative": lambda i: None,
        "fixed": lambda i: list(ATTRIBUTES),
        "random": lambda i: random.Random(f"order/{seed}/{i}").sample(
            list(ATTRIBUTES), len(ATTRIBUTES)
        ),
    }
    if choose not in orders:
        raise InputError(
            f"There is no way to choose called {choose!r}; there are: {', '.join(orders)}."
        )
    answerers = [Answerer(scene, target) for scene, target in zip(scenes, targets)]
    dialogues, notes = [(a.describe(),) for a in answerers], [Notes() for _ in answerers]
    reached = {name: torch.full((len(answerers),), rounds + 1) for name in searcher.methods}
    questions, kept, going = (
        [[] for _ in answerers],
        [[] for _ in answerers],
        list(range(len(answerers))),
    )
    for r in range(rounds + 1):
        for i, look in zip(
            going, searcher.look([dialogues[i] for i in going], [seed] * len(going))
        ):
            for name, first in reached.items():
                if look.place(name, targets[i]) <= TOP:
                    first[i] = min(int(first[i]), r)
            if keep:
                kept[i].append(look)
            if r < rounds and (question := searcher.ask(look, notes[i], form, orders[choose](i))):
                answer = answerers[i].answer(question)
                notes[i].hear(question, answer)
                questions[i].append(question)
                dialogues[i] += (entry_of(question, answer),)
        going = [
            i
            for i in going
            if len(dialogues[i]) == r + 2 and any(first[i] > r for first in reached.values())
        ]
        if progress:
            progress()
        if not going:
            break
    return Played(reached, rounds, dialogues, questions, kept)


# The ways to ask that are compared: how a question is chosen, and its form.
WAYS = {
    "informative": ("informative", "open"),
    "fixed order": ("fixed", "open"),
    "random order": ("random", "open"),
    "informative, yes/no": ("informative", "yes/no"),
}
GAMES = DATA / "games" / "games.json"


def hidden_postcards(benchmark, count=200):
    """Corpus places of postcards to hide: the last of the corpus, which no dialogue of the benchmark is about."""
    return list(range(len(benchmark.corpus) - count, len(benchmark.corpus)))


def stored_games(path=GAMES):
    """The bundled results: {way to ask: {method: rounds in which the target was found}} of 200 games on the test split."""
    held = read_json(path, "play them again with python -m adafuse_lite.game")
    return {
        way: Played(
            {name: torch.tensor(r) for name, r in found.items()}, held["rounds"], [], [], []
        )
        for way, found in held["games"].items()
    }


def main(path=GAMES, count=200):
    from ..bank import load_bank
    from ..benchmark import load_benchmark

    benchmark, bank = (
        load_benchmark("postcards", split="test"),
        load_bank("postcards", split="test"),
    )
    searcher = Searcher.postcards(benchmark, bank.corpus)
    bank.check(searcher.encoder.hash)
    targets, found = hidden_postcards(benchmark, count), {}
    for way, (choose, form) in WAYS.items():
        with tqdm(total=ROUNDS + 1, desc=way) as bar:
            played = play(
                searcher,
                [benchmark.scenes[t] for t in targets],
                targets,
                choose=choose,
                form=form,
                progress=bar.update,
            )
        found[way] = {name: r.tolist() for name, r in played.reached.items()}
    made_by = {
        "encoder": searcher.encoder.hash,
        "generator": searcher.generator.hash,
        "split": "test",
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(
        json.dumps({**made_by, "rounds": ROUNDS, "games": found}) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
