"""What an encoder sees in pictures: how likely each value of a postcard's attributes is.

It knows no scene: each picture is compared with texts that would fit it.
"""

import tomllib
from pathlib import Path

import torch

from ..postcards.captions import STATEMENTS, WHERE, article, fitting
from ..postcards.world import ATTRIBUTES, DETAILS, kind_of, thing_of

WORDS = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))
TEMPERATURES = WORDS["temperatures"]
TRIED = (0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.24, 0.5)
KINDS = {thing: tuple(v for v in ATTRIBUTES[thing] if v != "none") for thing in DETAILS}


def phrases(name, value):
    """Texts that fit a picture whose attribute ``name`` has this value, such as "a red barn"."""
    if value == "none":
        return (STATEMENTS["none"][thing_of(name)][0],)
    forms = fitting(WORDS["fitting"].get(name) or WORDS["fitting"][kind_of(name)], value)
    words = dict(v=value, a=article(value), where=WHERE.get(value, [""])[0])
    texts = [
        form.format(kind=kind, a_kind=article(kind), **words)
        for form in forms
        for kind in KINDS.get(thing_of(name), ["thing"])
    ]
    return tuple(dict.fromkeys(texts))  # each one once


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
