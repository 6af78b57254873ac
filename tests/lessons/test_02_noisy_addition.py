"""What 02_noisy_addition writes by hand is what the package does,
and its interventions do what they say."""

import random
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from lesson_kit import definitions, try_exercises

from adafuse_lite import fusion, metrics
from adafuse_lite.postcards import render, world

NAME = "02_noisy_addition"


@pytest.fixture(scope="module")
def lesson():
    return definitions(NAME)


def random_scenes(count, seed=0):
    rng = random.Random(seed)
    return [world.random_scene(rng) for _ in range(count)]


def stated(truth, rng):
    """Some true facts; of an absent thing nothing but its absence is ever stated."""
    rest = {
        name
        for thing, details in world.DETAILS.items()
        if truth[thing] == "none"
        for name in details
    }
    return {name: value for name, value in truth.items() if name not in rest and rng.random() < 0.4}


def test_the_blend_is_the_packages_blend(lesson):
    torch.manual_seed(0)
    one, two = (
        [F.normalize(torch.randn(7, 24), dim=-1).requires_grad_() for _ in range(2)]
        for _ in range(2)
    )
    with torch.no_grad():
        for a, b in zip(one, two):
            b.copy_(a)
    for lam in (0.0, 0.5, 0.8, torch.rand(7, 1)):
        ours, theirs = lesson["blend_by_hand"](*one, lam), fusion.blend(*two, lam)
        torch.testing.assert_close(ours, theirs)
        weights = torch.linspace(-1, 1, 24)
        (ours * weights).sum().backward()
        (theirs * weights).sum().backward()
    for a, b in zip(one, two):
        assert a.grad.abs().sum() > 0
        torch.testing.assert_close(a.grad, b.grad)
    for r, lam in enumerate((0.8, 0.8, 0.5, 0.5)):
        dar = fusion.DAR()(one[0].detach(), one[1].detach(), round=r).query
        torch.testing.assert_close(lesson["blend_by_hand"](one[0], one[1], lam).detach(), dar)


def test_the_shares_are_the_packages_shares(lesson):
    torch.manual_seed(1)
    for size in ((1, 11), (40, 11), (41, 3)):
        ranks, baseline = torch.randint(30, size), torch.randint(30, size)
        ours = lesson["degradation_by_hand"](ranks, baseline)
        for a, b in zip(ours, metrics.degradation(ranks, baseline), strict=True):
            torch.testing.assert_close(a, b)
        torch.testing.assert_close(ours[0], metrics.worse_than(ranks, baseline).mean(0))
        assert torch.equal(lesson["doublings"](ranks, baseline) > 0, ranks > baseline)
    assert lesson["doublings"](torch.tensor([9, 999]), torch.tensor([4, 499])).tolist() == [1, 1]


def test_the_spread_is_that_of_the_scores(lesson):
    torch.manual_seed(2)
    corpus, queries = torch.randn(500, 12) + 1, torch.randn(3, 4, 12)
    lesson["bank"] = SimpleNamespace(corpus=corpus)
    wanted = (queries @ corpus.T).std(dim=-1, correction=0).mean()
    torch.testing.assert_close(lesson["spread"](queries), wanted, rtol=1e-4, atol=1e-4)


def test_any_reading_can_be_drawn_and_mended(lesson):
    rng = random.Random(3)
    kinds = set()
    for target in random_scenes(25):
        truth = dict(vars(target))
        codes = [
            rng.randrange(len(values)) if rng.random() < 0.5 else code
            for values, code in zip(world.ATTRIBUTES.values(), target.codes())
        ]
        scene, facts = lesson["settled"](codes, truth), stated(truth, rng)
        render.draw(world.Scene(**scene))
        found = lesson["faults"](scene, truth, facts)
        touched = [name for group, _ in found.values() for name in group]
        assert len(touched) == len(set(touched))  # no attribute is repaired twice
        for group, kind in found.values():
            mended = {**scene, **{name: truth[name] for name in group}}
            assert mended != scene
            render.draw(world.Scene(**mended))  # each repair alone can be drawn
            assert kind == ("mis-drawn" if facts.keys() & set(group) else "made up")
            kinds.add(kind)
        assert {**scene, **{name: truth[name] for name in touched}} == truth
    assert kinds == {"mis-drawn", "made up"}


def test_faults_come_and_go_with_their_thing(lesson):
    truth = next(
        dict(vars(s)) for s in random_scenes(500) if s.vehicle == "car" and s.animal == "none"
    )
    scene = {
        **truth,
        "vehicle": "none",
        "vehicle_color": "none",
        "vehicle_place": "none",
        "animal": "cow",
        "animal_color": "white",
        "animal_place": "left",
        "sky": "grey" if truth["sky"] != "grey" else "pink",
    }
    facts = {
        "vehicle_color": truth["vehicle_color"],
        "sky": scene["sky"],
    }  # a machine answered: the sky is told wrongly
    assert lesson["faults"](scene, truth, facts) == {
        "sky": (("sky",), "told wrongly"),
        "vehicle missing": (("vehicle", "vehicle_color", "vehicle_place"), "mis-drawn"),
        "animal added": (("animal", "animal_color", "animal_place"), "made up"),
    }
    contradiction = {**truth, "animal": "cow"}  # a cow without colour and place
    drawable = lesson["settled"](
        [world.ATTRIBUTES[n].index(v) for n, v in contradiction.items()], truth
    )
    assert drawable["animal"] == "cow" and "none" not in (
        drawable["animal_color"],
        drawable["animal_place"],
    )


def test_inventing_keeps_what_is_stated(lesson):
    rng, open_details = random.Random(4), set()
    for target in random_scenes(40, seed=1):
        scene = dict(vars(target))
        facts = stated(scene, rng)
        made = vars(lesson["invent"](scene, facts, rng))
        render.draw(world.Scene(**made))
        assert {name: made[name] for name in facts} == facts
        open_details |= {name for name in scene if name not in facts and made[name] != scene[name]}
    assert len(open_details) == len(world.ATTRIBUTES)


def test_exercises():
    try_exercises(
        NAME,
        {
            "worse_beyond": [
                lambda ranks, baseline, control: (ranks > baseline).double().mean(0),
                lambda ranks, baseline, control: (ranks > control).double().mean(0),
                lambda ranks, baseline, control: (
                    (ranks >= baseline).double().mean(0) - (control >= baseline).double().mean(0)
                ),
                lambda ranks, baseline, control: (
                    (ranks > baseline).double().mean() - (control > baseline).double().mean()
                ),
            ],
            "oracle_weight": [
                lambda ranks, weights: weights[ranks.argmin(dim=0)],
                lambda ranks, weights: weights[ranks.argmax(dim=0)],
                lambda ranks, weights: ranks.amin(dim=0),
                lambda ranks, weights: weights[ranks.argmin()],
            ],
        },
    )
