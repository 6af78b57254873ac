"""What an encoder sees in pictures: how likely each value of a postcard's attributes is.

It knows no scene: each picture is compared with texts that would fit it.
"""

import tomllib
from pathlib import Path

import torch

from ..postcards.captions import STATEMENTS, WHERE, article, fitting, several
from ..postcards.world import ATTRIBUTES, DETAILS, kind_of, thing_of

WORDS = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))
TEMPERATURES = WORDS["temperatures"]
TRIED = (0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.24, 0.5)
KINDS = {thing: tuple(v for v in ATTRIBUTES[thing] if v != "none") for thing in DETAILS}
NUMBERS = ("one", "two", "three")


def phrases(name, value):
    """Texts that fit a picture whose attribute ``name`` has this value, such as "a red barn"."""
    thing = thing_of(name)
    kinds = KINDS.get(thing, ())
    if value == "none":
        return (STATEMENTS["none"][thing][0],)
    if name in WORDS["fitting"]:
        return tuple(form.format(v=value) for form in fitting(WORDS["fitting"][name], value))
    if name == "tree":
        return tuple(several(value, number) for number in NUMBERS)
    if name == "trees":
        return tuple(several(kind, value) for kind in kinds)
    if name == "roof":
        roofed = [f"{article(kind)} with {article(value)} roof" for kind in kinds]
        return (*roofed, f"the roof is {value}")
    if kind_of(name) == "color":
        return tuple(article(f"{value} {kind}") for kind in kinds)
    if kind_of(name) == "place":
        trees = [several(kind, number) for kind in kinds for number in NUMBERS]
        things = trees if thing == "tree" else map(article, kinds)
        return tuple(f"{words} {WHERE[value][0]}" for words in things)
    return (article(value),)


def similarities(encoder, features, name):
    """For each value of an attribute: of pictures [N, D] with the value's phrases, [N, phrases]."""
    return [
        features @ encoder.encode_text(phrases(name, value)).to(features.device).T
        for value in ATTRIBUTES[name]
    ]


def log_probabilities(similar, temperature):
    """[N, values]: a softmax over values; of a value's phrases the one that fits counts most."""
    fits = lambda s: (s / temperature).logsumexp(1) - torch.tensor(float(s.shape[1])).log()
    return torch.stack([fits(s) for s in similar], 1).log_softmax(1)


def probabilities(encoder, features, names=tuple(ATTRIBUTES), temperatures=TEMPERATURES):
    """{attribute: how likely each of its values is [N, values]} for pictures [N, D]."""
    similar = {name: similarities(encoder, features, name) for name in names}
    return {name: log_probabilities(s, temperatures[name]).exp() for name, s in similar.items()}


def entropy(p):
    """Of distributions along the last axis, in nats."""
    return -torch.special.xlogy(p, p).sum(-1)


def calibrate(encoder, features, scenes, grid=TRIED):
    """The temperature with the best log-likelihood for each attribute, and how well it is read.

    Returns {attribute: {"temperature", "accuracy", "chance", "left"}}; ``left`` is the share of the
    uncertainty that is left when the encoder has looked (0: it reads it, 1: it is blind for it).
    """
    codes, table = torch.tensor([scene.codes() for scene in scenes]), {}
    for name, truth in zip(ATTRIBUTES, codes.T):
        similar = similarities(encoder, features, name)
        share = torch.bincount(truth, minlength=len(ATTRIBUTES[name])) / len(truth)
        tries = []
        for temperature in grid:
            log_p = log_probabilities(similar, temperature)
            loss = -log_p.gather(1, truth[:, None]).mean().item()
            tries.append((loss, temperature, (log_p.argmax(1) == truth).float().mean().item()))
        loss, temperature, accuracy = min(tries)
        left = loss / entropy(share).item()
        chance = share.max().item()
        table[name] = dict(temperature=temperature, accuracy=accuracy, chance=chance, left=left)
    return table
