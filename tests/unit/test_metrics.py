"""Metrics against their definitions, intervals, and what is refused."""

import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adafuse_lite import (
    InputError,
    bootstrap,
    bri,
    degradation,
    hits_at_k,
    mrr,
    paired_difference,
    recall_at_k,
)
from adafuse_lite.metrics import Interval, per_dialogue, rank_change, verdict, worse_than

# --- metrics --------------------------------------------------------------------------------------

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


# --- intervals ------------------------------------------------------------------------------------


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
    at_three = paired_difference(a, b, "hits", 3, seed=1, resamples=50)
    assert torch.allclose(at_three.mean, hits_at_k(a, 3) - hits_at_k(b, 3))
    table = per_dialogue(a, "hits", 3) - per_dialogue(b, "hits", 3)
    assert torch.equal(at_three.low, bootstrap(table, 50, seed=1).low)
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


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.1, 0.2, "above zero"),
        (-0.2, -0.1, "below zero"),
        (-0.1, 0.1, "not told apart from zero"),
        (0.0, 0.1, "not told apart from zero"),
        (-0.1, 0.0, "not told apart from zero"),
    ],
)
def test_an_interval_is_said_in_words(low, high, said):
    assert verdict(low, high) == said
    assert verdict(low, high, "open") == said.replace("not told apart from zero", "open")


def test_an_interval_is_shown_in_points():
    rounds = [torch.tensor(ends) for ends in ([0.5, 0.0414], [0.4, 0.0171], [0.6, 0.0666])]
    difference = Interval(*rounds)
    assert difference.points() == "+4.1 points [+1.7, +6.7]: above zero"
    assert difference.points(0, digits=0) == "+50 points [+40, +60]: above zero"
    worse = Interval(*(-part for part in (rounds[0], rounds[2], rounds[1])))
    assert worse.points() == "-4.1 points [-6.7, -1.7]: below zero"
    nothing = Interval(*(torch.tensor([x]) for x in (0.0, -0.01, 0.01)))
    assert nothing.points(undecided="open") == "+0.0 points [-1.0, +1.0]: open"


def test_an_empty_table_has_no_interval():
    with pytest.raises(InputError, match="one number a dialogue"):
        bootstrap(torch.zeros(0, 3))
