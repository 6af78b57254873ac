"""How good the world's models are: what a linear probe sees, which colour belongs to which thing,
how many decibels, which share of what was told is drawn right, and how much varies from seed to
seed.

Attributes are read as codes [n, 18] (``Scene.codes()``). All shares are between 0 and 1.
"""

import random

import numpy as np
import torch
import torch.nn.functional as F

from .. import world
from . import writing

NAMES = list(world.ATTRIBUTES)
SIZES = [len(values) for values in world.ATTRIBUTES.values()]


def codes_of(scenes):
    """The scenes as codes [n, 18]."""
    return torch.tensor([scene.codes() for scene in scenes])


# --- encoder ------------------------------------------------------------------------------------
def linear_scores(fit_features, fit_labels, features, sizes=SIZES, decay=1e-4):
    """Multinomial regressions fitted on features [m, d] and labels [m, a] -> scores of
    ``features``: a list of [n, sizes[i]]. The features are standardised; nothing else is between
    them and the scores.
    """
    mean, spread = fit_features.mean(0), fit_features.std(0) + 1e-6
    x, y = (fit_features - mean) / spread, fit_labels.long()
    weight = torch.zeros(x.shape[1], sum(sizes), device=x.device, requires_grad=True)
    bias = torch.zeros(sum(sizes), device=x.device, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=150, line_search_fn="strong_wolfe")

    def closure():
        solver.zero_grad()
        scores = (x @ weight + bias).split(sizes, 1)
        loss = sum(F.cross_entropy(s, y[:, i]) for i, s in enumerate(scores))
        loss = loss + decay * weight.square().sum()
        loss.backward()
        return loss

    solver.step(closure)
    with torch.no_grad():
        return (((features - mean) / spread) @ weight + bias).split(sizes, 1)


def linear_probe(fit_features, fit_codes, features, codes):
    """Share of the attributes that a linear probe reads rightly off ``features``: {attribute:
    share}."""
    scores = linear_scores(fit_features, fit_codes, features)
    right = [(s.argmax(1) == codes[:, i]).float().mean() for i, s in enumerate(scores)]
    return {name: float(r) for name, r in zip(NAMES, right)}


def recall(queries, pictures, k=10):
    """Share of queries [n, d] whose own picture (the same row of [n, d]) is among the ``k``
    best."""
    scores = queries @ pictures.T
    ranks = (scores > scores.diagonal()[:, None]).sum(1)
    return float((ranks < k).float().mean())


# Colours that a wall and a vehicle can both have, so that they can be exchanged.
SHARED = [c for c in world.PRESENT["wall"] if c in world.PRESENT["vehicle_color"]]


def binding_scenes(count, seed=0, split="validation"):
    """Scenes with a wall and a vehicle of different colours that may be exchanged."""
    pool = world.scenes(split, 4 * count, seed=f"binding/{seed}")
    fits = [
        s
        for s in pool
        if s.wall in SHARED and s.vehicle_color in SHARED and s.wall != s.vehicle_color
    ]
    return fits[:count]


def binding_captions(scene, rng):
    """A caption of building and vehicle with their colours, and the same with the colours
    exchanged."""
    joint, first = rng.choice((" and ", " next to ", " near ")), rng.random() < 0.5

    def caption(wall, color):
        things = [f"a {wall} {scene.building}", f"a {color} {scene.vehicle}"]
        return joint.join(things if first else things[::-1])

    return caption(scene.wall, scene.vehicle_color), caption(scene.vehicle_color, scene.wall)


def binding(texts, exchanged, pictures, scenes):
    """How often the right one of two captions with exchanged colours is preferred (chance: one
    half).

    texts, exchanged, pictures: features [n, d] of captions, of captions with exchanged colours and
    of pictures. Returns {"match": between text and picture, as ARO asks it; "text probe", "picture
    probe": by a linear probe on one side alone, fitted on the first half and read on the second}.
    """
    match = ((texts * pictures).sum(1) > (exchanged * pictures).sum(1)).float().mean()
    labels = torch.tensor([[SHARED.index(s.wall), SHARED.index(s.vehicle_color)] for s in scenes])
    labels, half = labels.to(texts.device), len(scenes) // 2
    found = {"match": float(match)}
    for name, features in (("text probe", texts), ("picture probe", pictures)):
        wall, color = linear_scores(
            features[:half], labels[:half], features[half:], [len(SHARED)] * 2, decay=1e-3
        )
        w, c = labels[half:, :1], labels[half:, 1:]
        kept = wall.gather(1, w) + color.gather(1, c)
        found[name] = float((kept > wall.gather(1, c) + color.gather(1, w)).float().mean())
    return found


def judge_encoder(
    encode_text, encode_images, count=1_000, fit=4_000, pairs=1_000, seed=0, split="validation"
):
    """Everything above for one encoder, on held-out scenes, as a flat dict of shares.

    encode_text: list of str -> [n, d]; encode_images: bytes [n, 3, 64, 64] -> [n, d]; unit length.
    "short", "merged": Recall@10 of captions among ``count`` pictures, of one or two things, and of
    ten facts as the rewriter writes them.
    """
    scenes = world.scenes(split, fit + count, seed=f"judge/{seed}")
    features, codes = encode_images(draw(scenes)), codes_of(scenes)
    codes = codes.to(features.device)
    seen = linear_probe(features[:fit], codes[:fit], features[fit:], codes[fit:])
    rng, held = random.Random(f"judge/{seed}"), scenes[fit:]
    short = [writing.short_caption(s, rng)[0] for s in held]
    long = [writing.merged(writing.some_facts(s, rng, 8), rng)[0] for s in held]
    found = {"probe": float(np.mean(list(seen.values()))), "least": min(seen.values())}
    found["short"] = recall(encode_text(short), features[fit:])
    found["merged"] = recall(encode_text(long), features[fit:])
    bound = binding_scenes(pairs, seed, split)
    kept, exchanged = zip(*(binding_captions(s, rng) for s in bound))
    pictures = encode_images(draw(bound))
    found |= binding(encode_text(list(kept)), encode_text(list(exchanged)), pictures, bound)
    return found | seen


def draw(scenes):
    """The scenes as bytes [n, 3, 64, 64]."""
    pixels = np.stack([world.pixels(scene) for scene in scenes])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


# --- autoencoder and generator ------------------------------------------------------------------
@torch.no_grad()
def read(probe, pixels):
    """Codes that the ``probe`` reads off bytes [n, 3, 64, 64] -> [n, 18]."""
    where, found = next(probe.parameters()).device, []
    for part in pixels.split(500):
        scores = probe(part.to(where).float() / 127.5 - 1).split(SIZES, 1)
        found.append(torch.stack([s.argmax(1) for s in scores], 1).cpu())
    return torch.cat(found)


def psnr(pixels, others):
    """Peak signal-to-noise ratio in dB of bytes [n, 3, 64, 64] against others, over all pixels."""
    squared = (pixels.float() - others.float()).square().mean()
    return float(10 * torch.log10(255**2 / squared))


def judge_autoencoder(reconstruct, probe, count=500, seed=0, split="validation"):
    """{"psnr": in dB, "probe": share of all attributes that the probe reads off reconstructions,
    "least": the same of the attribute read worst, "weather": of the weather, where rain is thin}.

    reconstruct: bytes [n, 3, 64, 64] -> bytes.
    """
    scenes = world.scenes(split, count, seed=f"judge/{seed}")
    pixels = draw(scenes)
    back = reconstruct(pixels)
    right = (read(probe, back) == codes_of(scenes)).float().mean(0)
    found = {"psnr": psnr(back, pixels), "probe": float(right.mean()), "least": float(right.min())}
    return found | {"weather": float(right[NAMES.index("weather")])}


def share_right(codes, facts):
    """Of all ``facts`` [{attribute: value}], the share that the drawings' ``codes`` [n, 18]
    show."""
    right = [
        int(code[NAMES.index(name)]) == world.ATTRIBUTES[name].index(value)
        for code, said in zip(codes, facts)
        for name, value in said.items()
    ]
    return float(np.mean(right))


def sameness(first, second, facts):
    """How much more often two drawings of one caption make up the same open detail than two
    drawings of different captions do, 0 to 1: what is left open should vary from seed to seed.

    first, second: codes [n, 18] of two seeds. An attribute is open where the caption does not
    state it; chance is the agreement with the drawings of all other captions that leave the same
    one open.
    """
    above = []
    for i, name in enumerate(NAMES):
        rows = torch.tensor([name not in said for said in facts])
        if rows.sum() < 2:
            continue
        a, b = first[rows, i], second[rows, i]
        same = (a[:, None] == b[None]).float()
        chance = (same.sum() - same.diagonal().sum()) / (len(a) * (len(a) - 1))
        above.append((same.diagonal() - chance, len(a)))
    return float(torch.cat([x for x, _ in above]).mean())


def told(rounds=(0, 5, 10), count=64, seed=0, split="validation", style="visdial"):
    """Captions of dialogues as the generator reads them, with what they state: {round: (captions,
    facts)}."""
    from .. import dialogues

    held = world.scenes(split, count, seed=f"told/{seed}")
    talks = [
        dialogues.dialogue(s, style, random.Random(f"told/{seed}/{i}"))[0]
        for i, s in enumerate(held)
    ]
    return {
        r: tuple(zip(*(writing.reformulate(entries[: r + 1]) for entries in talks))) for r in rounds
    }


def judge_generator(generate, probe, **options):
    """Share of stated attributes drawn right, by round, and how much the seeds agree on open ones.

    generate(captions, seed): bytes [n, 3, 64, 64]. Returns {"right 0", "right 5", "right 10",
    "same": above chance, at round 5}.
    """
    found = {}
    for r, (captions, facts) in told(**options).items():
        codes = read(probe, generate(captions, 0))
        found[f"right {r}"] = share_right(codes, facts)
        if r == 5:
            found["same"] = sameness(codes, read(probe, generate(captions, 1)), facts)
    return found
