"""What 00_search_by_conversation writes by hand is what the package does;
its exercises and their checks."""

import pytest
import torch
import torch.nn.functional as F
from lesson_kit import definitions, exercises, try_exercises

from adafuse_lite import fusion, metrics, ranks
from adafuse_lite.postcards import world

NAME = "00_search_by_conversation"


@pytest.fixture(scope="module")
def lesson():
    return definitions(NAME)


@pytest.fixture(scope="module")
def solved(lesson):
    names = dict(lesson)
    for _, _, solution in exercises(NAME):
        exec(solution, names)
    return names


@pytest.fixture
def search():
    """Queries, a corpus with equal scores in it, and targets."""
    torch.manual_seed(0)
    queries, corpus = (
        F.normalize(torch.randn(40, 8), dim=-1),
        F.normalize(torch.randn(200, 8), dim=-1),
    )
    corpus[100:] = corpus[:100]
    return queries, corpus, torch.randint(200, (40,))


def test_the_score_is_the_cosine(lesson):
    a, b = F.normalize(
        torch.randn(2, 20, 5, generator=torch.Generator().manual_seed(1), dtype=torch.double),
        dim=-1,
    )
    ours = [lesson["cosine"](x, y) for x, y in zip(a.tolist(), b.tolist())]
    torch.testing.assert_close(torch.tensor(ours, dtype=torch.double), F.cosine_similarity(a, b))


def test_the_ranks_are_the_packages_ranks(lesson, solved, search):
    queries, corpus, target = search
    scores = queries @ corpus.T
    for ties, rank in (
        ("optimistic", lesson["rank_of"]),
        ("pessimistic", solved["pessimistic_rank"]),
    ):
        ours = [rank(row, int(t)) for row, t in zip(scores, target)]
        assert ours == ranks(queries, corpus, target, ties=ties).tolist(), ties


@pytest.mark.parametrize("k", (1, 10, 25))
def test_the_metrics_are_the_packages_metrics(lesson, solved, k):
    table = torch.randint(40, (60, 11), generator=torch.Generator().manual_seed(2))
    rows, rounds = table.tolist(), range(11)
    recall, hits = metrics.recall_at_k(table, k).tolist(), metrics.hits_at_k(table, k).tolist()
    assert [lesson["recall_at"](rows, r, k) for r in rounds] == pytest.approx(recall)
    assert [lesson["hits_at"](rows, r, k) for r in rounds] == pytest.approx(hits)
    first = [solved["first_found"](row, k) for row in rows]
    assert [
        sum(f is not None and f <= r for f in first) / len(first) for r in rounds
    ] == pytest.approx(hits)


def test_the_three_queries_are_the_packages_searchers(lesson, search):
    text, image = search[0][:20], search[0][20:]
    models = {"TextOnly": fusion.TextOnly(), "ImageOnly": fusion.ImageOnly(), "DAR": fusion.DAR()}
    for r in range(11):
        ours = lesson["three_queries"](text, image, r)
        assert ours.keys() == models.keys()
        for name, model in models.items():
            torch.testing.assert_close(ours[name], model(text, image, round=r).query)


def test_scenes_are_turned_and_fit_as_the_text_says(lesson):
    scene = world.scenes("models", 1)[0]
    for name, values in world.ATTRIBUTES.items():
        other = lesson["turned"](scene, name)
        assert [n for n in values if n == getattr(other, name)] and other != scene
        assert [n for n in world.ATTRIBUTES if getattr(other, n) != getattr(scene, n)] == [name]
        assert lesson["fits"](scene, {name: getattr(scene, name)}) and not lesson["fits"](
            other, vars(scene)
        )
    assert lesson["fits"](scene, {}) and lesson["fits"](scene, vars(scene))


def test_the_numbers_in_the_text_about_the_small_examples(lesson):
    """The sentences after the two examples made by hand say these numbers."""
    scores = torch.tensor(list(lesson["five"].values())) @ torch.tensor(lesson["asked"])
    assert (
        lesson["rank_of"](scores, list(lesson["five"]).index("C")) == 1
        and list(lesson["five"])[scores.argmax()] == "D"
    )
    recall, hits = (
        [lesson[f](lesson["by_hand"], r) for r in range(4)] for f in ("recall_at", "hits_at")
    )
    assert recall[1] < recall[0] and hits == sorted(hits)


def sorted_rank(scores, target):
    return scores.argsort(descending=True).tolist().index(target)


def counts_itself(scores, target):
    return int((scores >= scores[target]).sum())


def by_best_round(ranks, k=10):
    return ranks.index(min(ranks)) if min(ranks) < k else None


def one_too_many(ranks, k=10):
    return next((r for r, rank in enumerate(ranks) if rank <= k), None)


def from_one(ranks, k=10):
    return next((r for r, rank in enumerate(ranks, 1) if rank < k), None)


def test_exercises():
    try_exercises(
        NAME,
        {
            "pessimistic_rank": [
                counts_itself,
                sorted_rank,
                lambda scores, target: len(scores) - 1,
            ],
            "first_found": [by_best_round, one_too_many, from_one],
        },
    )


def test_the_checks_name_the_mistake(lesson):
    said = lesson["check_pessimistic_rank"]
    assert "own rival" in said(counts_itself) and "puts the target first" in said(lesson["rank_of"])
    said = lesson["check_first_found"]
    assert "best rank" in said(by_best_round) and "already outside" in said(one_too_many)
