"""What 04_train builds by hand is what the package does; its exercises tell right from wrong."""

import pytest
import torch
import torch.nn.functional as F
from lesson_kit import definitions, try_exercises
from torch import nn

from adafuse_lite import fusion, metrics, search, train


@pytest.fixture(scope="module")
def lesson():
    """What 04_train defines, by name."""
    return definitions("04_train")


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return F.normalize(torch.randn(7, 24), dim=-1), F.normalize(torch.randn(7, 24), dim=-1)


def test_the_head_is_the_packages_head(lesson, pair):
    ours = lesson["Head"](24, projection=16, hidden=32, experts=3)
    packaged = fusion.AdaFuSE(24, projection_dim=16, hidden_dim=32, num_experts=3)
    for weight in ours.parameters():
        nn.init.normal_(weight, std=0.3)
    packaged.load_state_dict(ours.state_dict())  # strict: the same names and shapes
    for a, b in zip(ours.eval()(*pair), packaged.eval()(*pair)):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    sums = [
        sum((w * torch.linspace(-1, 1, 24)).sum() for w in model(*pair)[:1])
        for model in (ours, packaged)
    ]
    for total in sums:
        total.backward()
    theirs = dict(packaged.named_parameters())
    for name, weight in ours.named_parameters():
        if weight.grad is not None:
            torch.testing.assert_close(weight.grad, theirs[name].grad, atol=1e-5, rtol=1e-4)


def test_a_fresh_head_of_either_kind_starts_at_the_blend(lesson, pair):
    for head in (lesson["Head"](24, 16, 32), fusion.AdaFuSE(24, 16, 32)):
        query, gate, routing = head.eval()(*pair)
        torch.testing.assert_close(query, fusion.blend(*pair, gate))
        torch.testing.assert_close(routing.sum(1), torch.ones(7))
        assert head.logit_scale.exp().item() == pytest.approx(50, rel=1e-5)


def test_the_loss_is_the_packages_loss(lesson, pair):
    for scale in (1.0, 50.0, torch.tensor(7.0)):
        torch.testing.assert_close(
            lesson["info_nce"](*pair, scale), train.contrastive_loss(*pair, scale)
        )


def test_the_metrics_are_the_packages_metrics(lesson):
    torch.manual_seed(1)
    queries, corpus = torch.randn(50, 8), torch.randn(300, 8)
    corpus[100:200] = corpus[:100]  # equal scores
    target = torch.randint(300, (50,))
    assert torch.equal(
        lesson["rank_by_counting"](queries, corpus, target), search.ranks(queries, corpus, target)
    )
    table = torch.randint(40, (50, 11))
    torch.testing.assert_close(lesson["recall_by_hand"](table).double(), metrics.recall_at_k(table))
    torch.testing.assert_close(lesson["hits_by_hand"](table).double(), metrics.hits_at_k(table))


def test_exercises():
    undecided = lambda routing: torch.special.entr(routing).sum(1).mean().exp()
    no_mean = lambda routing: torch.tensor(4.0)
    text_only = lambda text, image, corpus, target: search.ranks(text, corpus, target)
    worst = lambda text, image, corpus, target: (
        torch.stack(
            [
                search.ranks(fusion.blend(text, image, w), corpus, target)
                for w in torch.linspace(0, 1, 11)
            ]
        )
        .max(0)
        .values
    )
    try_exercises(
        "04_train", {"experts_at_work": [undecided, no_mean], "oracle_ranks": [text_only, worst]}
    )
