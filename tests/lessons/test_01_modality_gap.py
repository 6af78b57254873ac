"""What 01_modality_gap writes by hand is what the package does,
and its exercises tell right from wrong."""

import pytest
import torch
import torch.nn.functional as F
from lesson_kit import definitions, try_exercises
from toy_bank import toy_bank

from adafuse_lite import fusion, train

NAME = "01_modality_gap"


@pytest.fixture(scope="module")
def lesson():
    return definitions(NAME)


@pytest.fixture
def unit():
    torch.manual_seed(0)
    return F.normalize(torch.randn(40, 16) + 0.3, dim=-1)


def test_gap_is_the_difference_of_the_means(lesson, unit):
    images, texts = unit[:25], unit[25:]
    found = lesson["gap"](images, texts)
    torch.testing.assert_close(found, sum(images) / 25 - sum(texts) / 15)
    torch.testing.assert_close(lesson["gap"](texts, images), -found)
    several = lesson["gap"](
        torch.stack([images, 2 * images]), torch.stack([texts, 2 * texts])
    )  # runs first
    torch.testing.assert_close(several, torch.stack([found, 2 * found]))


def test_mean_pairwise_cosine_leaves_out_self_pairs(lesson, unit):
    pairs = torch.stack([unit[i] @ unit[j] for i in range(40) for j in range(40) if i != j])
    torch.testing.assert_close(lesson["mean_pairwise_cosine"](unit), pairs.mean())
    torch.testing.assert_close(
        lesson["mean_pairwise_cosine"](unit[:1].repeat(5, 1)), torch.tensor(1.0)
    )
    torch.testing.assert_close(lesson["mean_pairwise_cosine"](torch.eye(6)), torch.tensor(0.0))


def test_the_spread_is_the_packages_spread(lesson):
    bank = toy_bank()
    packaged = fusion.StandardisedSum.fit_to(bank)
    text, image = (
        lesson["spread"](x.flatten(0, 1), bank.corpus) for x in (bank.text, bank.generated)
    )
    assert text.item() == pytest.approx(packaged.text_spread, rel=1e-4)
    assert image.item() == pytest.approx(packaged.image_spread, rel=1e-4)
    assert packaged.weights.item() == pytest.approx(float(image / (text + image)), rel=1e-4)


def test_the_standardised_sum_ranks_like_a_fixed_weight(lesson):
    """What the text says of StandardisedSum, on scores."""
    bank = toy_bank()
    packaged = fusion.StandardisedSum.fit_to(bank)
    text, image = bank.text[:, 1].double(), bank.generated[:, 1].double()
    scores = (
        text @ bank.corpus.double().T / packaged.text_spread
        + image @ bank.corpus.double().T / packaged.image_spread
    )
    blended = fusion.blend(text, image, packaged.weights.double()) @ bank.corpus.double().T
    assert torch.equal(scores.argsort(1), blended.argsort(1))


@pytest.mark.parametrize("scale", [0.0, 1.0, 10.0, 100.0])
def test_the_loss_is_the_packages_loss(lesson, unit, scale):
    results = []
    for loss in (lesson["info_nce"], train.contrastive_loss):
        a, b = (x.clone().requires_grad_() for x in (unit[:20], unit[20:]))
        s = torch.tensor(scale, requires_grad=True)
        value = loss(a, b, s)
        value.backward()
        results.append((value, a.grad, b.grad, s.grad))
    for ours, theirs in zip(*results):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_runs_side_by_side_are_runs_alone(lesson, unit):
    towers = [lesson["new_tower"](seed, (16, 8, 4)) for seed in (3, 4)]
    together = lesson["tower"](unit, [torch.stack(w) for w in zip(*towers)])  # [runs, n, out]
    assert together.shape == (2, 40, 4)
    for run, tower in enumerate(towers):
        by_hand = F.normalize(torch.relu(unit @ tower[0]) @ tower[1], dim=-1)
        torch.testing.assert_close(together[run], by_hand)
    both = lesson["info_nce"](
        together[:, :20], together[:, 20:], torch.tensor([5.0, 20.0])[:, None, None]
    )
    alone = [train.contrastive_loss(x[:20], x[20:], s) for x, s in zip(together, (5.0, 20.0))]
    torch.testing.assert_close(both, torch.stack(alone))


def test_exercises():
    try_exercises(
        NAME,
        {
            "gap_from_cosines": [
                lambda a, b, between: a + b - 2 * between,  # no root
                lambda a, b, between: (a + b - between) ** 0.5,  # the mixed term once
                lambda a, b, between: (a + b + 2 * between) ** 0.5,  # wrong sign
                lambda a, b, between: (2 * between - a - b) ** 0.5,  # root of a negative number
            ],
            "weight_for": [
                lambda share, text, image: (
                    share * text / (share * text + (1 - share) * image)
                ),  # upside down
                lambda share, text, image: share / text,  # not divided by the sum
                lambda share, text, image: image / (text + image),  # forgets the share
            ],
        },
    )


def test_the_solution_of_exercise_2_is_the_standardised_sum():
    from lesson_kit import exercises

    names = definitions(NAME)
    for _, _, solution in exercises(NAME):
        exec(solution, names)
    packaged = fusion.StandardisedSum(0.12, 0.31)
    assert names["weight_for"](0.5, 0.12, 0.31) == pytest.approx(packaged.weights.item())
    torch.manual_seed(1)
    images, texts = (F.normalize(torch.randn(4000, 8) + shift, dim=-1) for shift in (0.5, -0.2))
    within = [names["mean_pairwise_cosine"](x) for x in (images, texts)]
    wanted = names["gap"](images, texts).norm()
    found = names["gap_from_cosines"](*within, images.mean(0) @ texts.mean(0))
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=0)
