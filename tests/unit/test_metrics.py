"""Ranks against sorting, metrics against their definitions, and what both may cost."""

import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_bank import toy_bank

from adafuse_lite import (
    AdaFuSE,
    ImageOnly,
    InputError,
    TextOnly,
    bootstrap,
    bri,
    degradation,
    hits_at_k,
    metrics,
    mrr,
    paired_difference,
    rank_table,
    ranks,
    recall_at_k,
)
from adafuse_lite.metrics import per_dialogue, rank_change, worse_than

# ---------------------------------------------------------------- ranks


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 40),
    st.integers(1, 4),
    st.integers(0, 10**6),
    st.integers(1, 9),
    st.integers(1, 40),
)
def test_ranks_agree_with_sorting(n, pictures, width, seed, rows, columns):
    """Small whole numbers: exact scores and many ties."""
    rng = np.random.default_rng(seed)
    q, c = rng.integers(-2, 3, (n, width)), rng.integers(-2, 3, (pictures, width))
    t = rng.integers(0, pictures, n)
    scores = q @ c.T
    wanted = {"optimistic": [], "pessimistic": []}
    for row, i in zip(scores, t):
        in_order = sorted(row, reverse=True)
        wanted["optimistic"].append(in_order.index(row[i]))
        wanted["pessimistic"].append(pictures - 1 - in_order[::-1].index(row[i]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "QUERIES", rows)
        patch.setattr(metrics, "PICTURES", columns)
        for ties, expected in wanted.items():
            got = ranks(torch.tensor(q).float(), torch.tensor(c).float(), torch.tensor(t), ties)
            assert got.tolist() == expected
    for low, high, row, i in zip(*wanted.values(), scores, t):
        assert low <= np.argsort(-row).tolist().index(i) <= high


def test_the_order_of_the_corpus_does_not_matter():
    g = torch.Generator().manual_seed(0)
    q, c, t = (
        torch.randn(50, 8, generator=g),
        torch.randn(300, 8, generator=g).half(),
        torch.arange(50),
    )
    assert torch.equal(ranks(q, c, t), ranks(q, c.flip(0), 299 - t))


@pytest.mark.parametrize("n", [1, 3, 7, metrics.QUERIES + 3])
def test_pictures_that_equal_the_target_tie_with_it_wherever_they_are(n):
    """Copies beside it, in another piece, at the ends of pieces: a product alone does not score
    them the same to the last digit."""
    g = torch.Generator().manual_seed(0)
    end = 2 * metrics.PICTURES
    places = [0, 1, 700, metrics.PICTURES - 1, metrics.PICTURES, end, end + 76]
    q, c = torch.randn(n, 256, generator=g), torch.randn(end + 77, 256, generator=g)
    for target in places:  # without copies nothing ties with it but itself
        t = torch.full((n,), target)
        assert torch.equal(ranks(q, c, t), ranks(q, c, t, "pessimistic"))
    c[places], c[[5, end + 3]] = c[0].clone(), c[5].clone()
    c[9, 1:-1] = c[0, 1:-1]  # equal but for the ends
    c[11, 0], c[11, -1] = c[0, 0], c[0, -1]  # equal at the ends
    scores = q.double() @ c.double().T
    for target in (*places, 5, 9, 11, 12):
        low, high = (
            ranks(q, c, torch.full((n,), target), ties) for ties in ("optimistic", "pessimistic")
        )
        assert (high - low == {5: 1, 9: 0, 11: 0, 12: 0}.get(target, len(places) - 1)).all()
        others = (c != c[target]).any(1)
        higher = (scores[:, others] > scores[:, [target]]).sum(1)
        assert (low - higher).abs().max() <= 1 and (
            low == higher
        ).float().mean() > 0.9  # the last digit of a close score


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(target=torch.tensor([0, 9])), "target 9 of query 1 is not in the corpus of 4"),
        (dict(target=torch.tensor([0])), "one target each"),
        (dict(corpus=torch.ones(4, 2)), "do not fit together"),
        (dict(queries=torch.tensor([[1.0, 2, 3], [1, float("nan"), 3]])), "query 1 are not finite"),
        (dict(corpus=torch.full((4, 3), float("inf"))), "corpus picture 0 are not finite"),
        (dict(ties="middle"), "optimistic"),
    ],
)
def test_unfit_features_are_refused(change, message):
    given = dict(queries=torch.ones(2, 3), corpus=torch.ones(4, 3), target=torch.tensor([0, 1]))
    with pytest.raises(InputError, match=message):
        ranks(**{**given, **change})


PEAK = """
import re, torch
from pathlib import Path
from adafuse_lite import ranks
q, c, t = torch.randn(2064, 32), torch.randn(50000, 32), torch.arange(2064)
ranks(q[:2], c[:64], t[:2])
def kilobytes(what):
    status = Path("/proc/self/status").read_text()
    return int(re.search(what + r":\\s+(\\d+)", status)[1])
before = kilobytes("VmRSS")
ranks(q, c, t)
print((kilobytes("VmHWM") - before) / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux")
def test_ranks_need_little_memory():
    """Peak of a process of its own; the width of the features hardly counts,
    all scores at once would take 516 MB.

    Not ``ru_maxrss``: a child inherits its parent's, which hides what the child itself takes.
    """
    run = subprocess.run([sys.executable, "-c", PEAK], check=True, capture_output=True, text=True)
    # 8 of them are the scores: less would mean that nothing was measured
    assert 6 < float(run.stdout) < 80


def seconds(function, repeats=3):
    """The quickest of some runs, in processor time: others on the machine hardly disturb it."""
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        taken.append(time.process_time() - start)
    return min(taken)


def costs(queries, pictures):
    g = torch.Generator().manual_seed(0)
    q, c = torch.randn(queries, 256, generator=g), torch.randn(pictures, 256, generator=g)
    t = torch.arange(queries)
    found = seconds(lambda: ranks(q, c, t)), seconds(lambda: (q @ c.T).argsort(1), 1)
    order = (q @ c.T).argsort(1, descending=True)
    in_order = (order == t[:, None]).int().argmax(1)
    assert (ranks(q, c, t) <= in_order).all() and (in_order <= ranks(q, c, t, "pessimistic")).all()
    return found


def test_counting_is_quicker_than_sorting():
    counting, sorting = costs(128, 20_000)
    assert counting * 3 < sorting


def test_rank_table_feeds_the_fields_it_is_told():
    bank = toy_bank()
    table = rank_table(TextOnly(), bank, text="prompt")
    assert table.shape == (60, 3) and table.dtype == torch.int64
    assert torch.equal(table, rank_table(ImageOnly(), bank, image="prompt"))
    assert torch.equal(table[:, 1], ranks(bank.prompt[:, 1], bank.corpus, bank.target))
    head = AdaFuSE(12, 8, 16).train()
    assert (
        torch.equal(rank_table(head, bank), rank_table(head, bank)) and head.training
    )  # no dropout while ranking
    with pytest.raises(InputError, match="no features 'images'"):
        rank_table(head, bank, image="images")
    bank.generated[7, 2, 0] = float("nan")
    with pytest.raises(InputError, match="generated features of query 7, round 2"):
        rank_table(head, bank)


# ---------------------------------------------------------------- metrics

TABLE = torch.tensor([[20, 3, 15], [0, 0, 0], [50, 40, 9], [99, 98, 97]])


def test_metrics_by_hand():
    assert hits_at_k(TABLE, 10).tolist() == [0.25, 0.5, 0.75]
    assert recall_at_k(TABLE, 10).tolist() == [0.25, 0.5, 0.5]
    assert mrr(TABLE)[1].item() == pytest.approx((1 / 4 + 1 + 1 / 41 + 1 / 99) / 4)
    one = torch.tensor([[7, 3, 5]])  # best so far, from 1: 8, 4, 4
    ln = math.log
    wanted = [ln(8), (ln(8) + ln(4)) / 2, ((ln(8) + ln(4)) / 2 + ln(4)) / 2]
    assert bri(one).tolist() == pytest.approx(wanted)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 60), min_size=4, max_size=4), min_size=1, max_size=8))
def test_metrics_by_definition(rows):
    table = torch.tensor(rows)
    for r in range(4):
        best = [min(row[: r + 1]) for row in rows]
        assert hits_at_k(table, 10)[r].item() == pytest.approx(np.mean([b < 10 for b in best]))
        assert recall_at_k(table, 10)[r].item() == pytest.approx(
            np.mean([row[r] < 10 for row in rows])
        )
    logs = np.log(1 + np.minimum.accumulate(np.array(rows), axis=1))
    assert bri(table)[-1].item() == pytest.approx(
        np.mean([np.sum((x[1:] + x[:-1]) / 2) / 3 for x in logs])
    )


def test_a_list_of_seeds_stands_for_its_average():
    other = TABLE.flip(0)
    both = per_dialogue([TABLE, other], "mrr")
    assert torch.allclose(both, (per_dialogue(TABLE, "mrr") + per_dialogue(other, "mrr")) / 2)


def test_degradation_by_hand():
    base = torch.tensor([[10, 10], [10, 10], [10, 10]])
    found = degradation(torch.tensor([[11, 10], [40, 10], [5, 0]]), base)
    third = pytest.approx
    assert found.worse.tolist() == third([2 / 3, 0]) and found.equal.tolist() == third([0, 2 / 3])
    assert found.better.tolist() == third([1 / 3, 1 / 3])
    assert found.mean_change.tolist() == third(
        [26 / 3, -10 / 3]
    ) and found.median_change.tolist() == [1, 0]
    assert worse_than(base + 1, base).tolist() == [[1, 1]] * 3
    with pytest.raises(InputError, match="same dialogues"):
        degradation(base, base[:2])


# ---------------------------------------------------------------- intervals


def test_bootstrap_is_quick_seeded_and_about_right():
    g = torch.Generator().manual_seed(0)
    table = torch.rand(1_000, 11, generator=g)
    start = time.process_time()
    found = bootstrap(table)
    assert time.process_time() - start < 2
    assert torch.equal(found.low, bootstrap(table).low) and not torch.equal(
        found.low, bootstrap(table, seed=1).low
    )
    half_width = 1.96 * table.std(0) / 1_000**0.5
    assert torch.allclose((found.high - found.low).float() / 2, half_width, rtol=0.15)
    assert ((found.low < found.mean) & (found.mean < found.high)).all()


def test_rounds_are_drawn_together():
    same = torch.rand(50, 1, generator=torch.Generator().manual_seed(0)).expand(50, 4)
    found = bootstrap(same)
    assert (found.low == found.low[0]).all()


def test_paired_difference_is_narrower_than_its_parts():
    g = torch.Generator().manual_seed(0)
    a = torch.randint(0, 20, (400, 3), generator=g)
    b = a + torch.randint(0, 3, (400, 3), generator=g)
    found = paired_difference(a, b, "recall", 10)
    assert torch.allclose(found.mean, recall_at_k(a) - recall_at_k(b))
    alone = bootstrap(per_dialogue(a, "recall", 10))
    assert (found.high - found.low < alone.high - alone.low).all() and (found.low > 0).all()
    assert torch.equal(paired_difference([a, a], [b, b, b]).low, found.low)
    with pytest.raises(InputError, match="same dialogues"):
        paired_difference(a, b[:5])


def test_unfit_tables_are_refused():
    with pytest.raises(InputError, match="unknown"):
        per_dialogue(TABLE, "accuracy")
    for bad in (TABLE[0], [TABLE, TABLE[:2]], [], TABLE[:0]):
        with pytest.raises(InputError, match=r"give one \[Q, R\]"):
            recall_at_k(bad)
    with pytest.raises(InputError, match="one number a dialogue"):
        bootstrap(TABLE[0])


def test_ten_places_are_the_usual_number():
    table = torch.tensor([[9], [10]])  # 0-based: the tenth place counts, the eleventh does not
    assert (
        hits_at_k(table).tolist()
        == recall_at_k(table).tolist()
        == per_dialogue(table).mean(0).tolist()
        == [0.5]
    )


def test_numbers_whose_sum_overflows_are_finite():
    big = torch.full((1, 4), 1e38)
    assert not big.sum().isfinite() and ranks(big, torch.eye(4), [0]).tolist() == [0]


def test_a_target_just_outside_is_refused():
    with pytest.raises(InputError, match="target 4 of query 0"):
        ranks(torch.eye(4)[:1], torch.eye(4), [4])


def test_ranks_that_stay_are_not_worse():
    one, other = torch.tensor([[3], [5], [1]]), torch.tensor([[3], [4], [2]])
    assert worse_than(one, other).flatten().tolist() == [0, 1, 0]


def test_several_seeds_may_share_a_baseline_or_have_one_each():
    table = torch.tensor([[3, 1], [5, 0]])
    assert (
        rank_change([table, table], [table]).abs().sum()
        == rank_change([table, table], [table, table]).abs().sum()
        == 0
    )
    for one, other in (([table] * 3, [table] * 2), (table, table[:, :1]), (table, table[:1])):
        with pytest.raises(InputError, match="do not match"):
            rank_change(one, other)


def test_the_interval_holds_its_level():
    """A mean of 0 and 1: the percentiles of a binomial, 2.5 and 97.5 of a hundred."""
    found = bootstrap(torch.tensor([[0.0]] * 50 + [[1.0]] * 50), resamples=4_000)
    assert found.low.item() == pytest.approx(
        0.5 - 1.96 * 0.05, abs=0.011
    ) and found.high.item() == pytest.approx(0.5 + 1.96 * 0.05, abs=0.011)
    many = torch.rand(
        300, 1, generator=torch.Generator().manual_seed(0)
    )  # their mean is as good as normal
    found_many, spread = bootstrap(many, resamples=20_000), many.std(correction=0).item() / 300**0.5
    for end in (found_many.mean - found_many.low, found_many.high - found_many.mean):
        assert end.item() / spread == pytest.approx(1.96, rel=0.03)
    for level in (0.5, 0.99):
        part = bootstrap(torch.tensor([[0.0]] * 50 + [[1.0]] * 50), resamples=4_000, level=level)
        assert (part.low > found.low) == (level < 0.95) == (part.high < found.high)


def test_an_empty_table_has_no_interval():
    with pytest.raises(InputError, match="one number a dialogue"):
        bootstrap(torch.zeros(0, 3))
