"""Search: ranks against sorting, the best pictures, and what both may cost."""

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

from adafuse_lite import AdaFuSE, ImageOnly, InputError, TextOnly, rank_table, ranks, search, top


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
        patch.setattr(search, "QUERIES", rows)
        patch.setattr(search, "PICTURES", columns)
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


@pytest.mark.parametrize("n", [1, 3, 7, search.QUERIES + 3])
def test_pictures_that_equal_the_target_tie_with_it_wherever_they_are(n):
    """Copies beside it, in another piece, at the ends of pieces: a product alone does not score
    them the same to the last digit."""
    g = torch.Generator().manual_seed(0)
    end = 2 * search.PICTURES
    places = [0, 1, 700, search.PICTURES - 1, search.PICTURES, end, end + 76]
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


def test_numbers_whose_sum_overflows_are_finite():
    big = torch.full((1, 4), 1e38)
    assert not big.sum().isfinite() and ranks(big, torch.eye(4), [0]).tolist() == [0]


def test_a_target_just_outside_is_refused():
    with pytest.raises(InputError, match="target 4 of query 0"):
        ranks(torch.eye(4)[:1], torch.eye(4), [4])


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


def test_top_is_the_sorted_top_in_any_chunks(monkeypatch):
    monkeypatch.setattr(search, "QUERIES", 3)
    monkeypatch.setattr(search, "PICTURES", 7)
    torch.manual_seed(0)
    query, corpus = torch.randn(4, 8), torch.randn(50, 8)
    scores, places = top(query, corpus, 10)
    wanted = (query @ corpus.T).sort(dim=1, descending=True)
    assert torch.equal(places, wanted.indices[:, :10])
    torch.testing.assert_close(scores, wanted.values[:, :10])
    assert torch.equal(ranks(query, corpus, places[:, 3]), torch.full((4,), 3))
    assert top(query, corpus, 99)[1].shape == (4, 50)


# --- what it costs --------------------------------------------------------------------------------


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


def seconds(function, repeats=10):
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
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two that wait for each other on a busy machine say nothing
    try:
        counting, sorting = costs(128, 20_000)
    finally:
        torch.set_num_threads(threads)
    assert counting * 3 < sorting
