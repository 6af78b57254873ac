"""Many games without a person: played by an answerer who sees the scenes, and those stored."""

import random
from dataclasses import dataclass, field

import torch

from ..errors import InputError
from ..files import read_json
from ..names import DATA
from ..postcards.world import ATTRIBUTES
from .asking import Answerer, Notes, entry_of
from .state import LAST_ROUND, WINS_AT

GAMES = DATA / "games" / "games.json"
WAYS = ("informative", "fixed order", "random order", "informative, yes/no")  # to ask, compared


@dataclass(frozen=True)
class Played:
    """G games that ran by themselves.

    ``reached`` {method: [G]}: the round in which the target first came into its top ten,
    ``last`` + 1 where it never did. Of each game its dialogue, questions and (if kept) looks.
    """

    reached: dict
    last: int
    dialogues: list = field(default_factory=list)
    questions: list = field(default_factory=list)
    looks: list = field(default_factory=list)

    def wins(self, method):
        """[G, last + 1]: whether the target was in the top ten by then."""
        return (self.reached[method][:, None] <= torch.arange(self.last + 1)).double()


def simulate(
    searcher, scenes, targets, last=LAST_ROUND, way="informative", seed=0, keep=False, progress=None
):
    """Games of the simulated answerer: all games of a round are drawn and encoded together.

    way: to ask, one of ``WAYS``, for what is most informative, for the attributes in the order of
    ``world.ATTRIBUTES``, or in an order of each game's own; the descriptions are the same for all.
    Every method ranks by the same dialogue, whose questions are about the candidates of the leading
    one. A game ends when all methods have the target in their top ten. keep: the looks, too;
    progress: called after each round.
    """
    if way not in WAYS:
        raise InputError(f"There is no way to ask called {way!r}; there are: {'; '.join(WAYS)}.")
    names, form = list(ATTRIBUTES), "yes/no" if way.endswith("yes/no") else "open"
    shuffled = lambda game: random.Random(f"order/{seed}/{game}").sample(names, len(names))
    orders = {"fixed order": lambda game: names, "random order": shuffled}
    order = orders.get(way, lambda game: None)
    answerers = [Answerer(scene, target) for scene, target in zip(scenes, targets)]
    dialogues, notes = [(a.describe(),) for a in answerers], [Notes() for _ in answerers]
    questions, kept = [[] for _ in answerers], [[] for _ in answerers]
    reached = {name: torch.full((len(targets),), last + 1) for name in searcher.methods}
    going = range(len(targets))
    for number in range(last + 1):
        looks = searcher.look([dialogues[i] for i in going], [seed] * len(going))
        for i, look in zip(going, looks):
            for name, first in reached.items():
                if look.place(name, targets[i]) <= WINS_AT:
                    first[i] = min(int(first[i]), number)
            if keep:
                kept[i].append(look)
            asks = number < last and searcher.ask(look, notes[i], form, order(i))
            if asks:
                answer = answerers[i].answer(asks)
                notes[i].hear(asks, answer)
                questions[i].append(asks)
                dialogues[i] += (entry_of(asks, answer),)
        if progress:
            progress()
        last_found = torch.stack(list(reached.values())).amax(0)
        going = [i for i in going if last_found[i] > number and len(questions[i]) > number]
        if not going:
            break
    return Played(reached, last, dialogues, questions, kept)


def hidden_postcards(benchmark, count=200):
    """Corpus indices of postcards to hide: the last ones, which no dialogue is about."""
    return list(range(len(benchmark.corpus) - count, len(benchmark.corpus)))


def stored_games(path=GAMES):
    """The bundled results of 200 games on the test split: {way to ask: ``Played``}."""
    held = read_json(path, "play them again with python -m adafuse_lite.game")
    tensors = lambda reached: {name: torch.tensor(rounds) for name, rounds in reached.items()}
    return {way: Played(tensors(r), held["rounds"]) for way, r in held["games"].items()}
