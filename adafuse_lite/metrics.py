"""Metrics: from ranks to numbers with intervals.

A rank table [Q, R] holds, for every dialogue and round, how many pictures of the corpus beat the
target (0 is best). Every metric is a mean over dialogues, so each starts as a table of one number a
dialogue and round; intervals resample dialogues with all their rounds. A list of rank tables (one a
seed) stands for their average, dialogue by dialogue.
"""

from typing import NamedTuple

import torch

from .errors import InputError


def _tables(tables):
    """One rank table [Q, R], or a list of them (seeds), as [S, Q, R]."""
    tables = [tables] if isinstance(tables, torch.Tensor) else list(tables)
    if not tables or any(t.ndim != 2 or t.shape != tables[0].shape or 0 in t.shape for t in tables):
        shapes = [list(t.shape) for t in tables]
        raise InputError(f"Shapes {shapes}: give one [Q, R] of ranks, or several of equal shape.")
    return torch.stack(tables).cpu()


def _bri(ranks):
    best = ranks.cummin(-1).values.double().add(1).log()  # ln pi_t, pi counted from 1
    area = torch.cat([best[..., :1], (best[..., :-1] + best[..., 1:]) / 2], -1)
    steps = torch.arange(ranks.shape[-1], device=ranks.device).clamp(min=1)
    return torch.cat([area[..., :1], area[..., 1:].cumsum(-1) / steps[1:]], -1)


METRICS = {
    "hits": lambda ranks, k: ranks.cummin(-1).values < k,  # in the first k in some round so far
    "recall": lambda ranks, k: ranks < k,  # in the first k in this round
    "mrr": lambda ranks, k: 1 / (ranks.double() + 1),
    "bri": lambda ranks, k: _bri(ranks),
}


def per_dialogue(ranks, metric="recall", k=10):
    """A metric ("hits", "recall", "mrr", "bri") before its mean over dialogues: [Q, R]."""
    if metric not in METRICS:
        raise InputError(f"The metric {metric!r} is unknown; choose one of {', '.join(METRICS)}.")
    return METRICS[metric](_tables(ranks), k).double().mean(0)


def hits_at_k(ranks, k=10):
    """Hits@k up to each round [R]: share of dialogues with the target in the first k in some round.

    ChatIR's metric. It never falls, and noise alone raises it: read it beside ``recall_at_k``.
    """
    return per_dialogue(ranks, "hits", k).mean(0)


def recall_at_k(ranks, k=10):
    """Recall@k at each round [R]: share of dialogues with the target in the first k then."""
    return per_dialogue(ranks, "recall", k).mean(0)


def mrr(ranks):
    """Mean reciprocal rank at each round [R]: the mean of 1 / (rank + 1)."""
    return per_dialogue(ranks, "mrr").mean(0)


def bri(ranks):
    """Best log Rank Integral (PlugIR) up to each round [R], lower is better; published is the last.

    With pi_t the best rank so far, from 1: the trapezoid mean of ln(pi_t), at round 0 ln(pi_0).
    """
    return per_dialogue(ranks, "bri").mean(0)


class Degradation(NamedTuple):
    """A searcher against a baseline, per round [R]: shares of queries, and ranks lost."""

    worse: torch.Tensor
    equal: torch.Tensor
    better: torch.Tensor
    mean_change: torch.Tensor
    median_change: torch.Tensor


def rank_change(ranks, baseline_ranks):
    """rank - baseline's rank for every dialogue and round: [S, Q, R] for S seeds."""
    ranks, baseline_ranks = _tables(ranks), _tables(baseline_ranks)
    if ranks.shape[1:] != baseline_ranks.shape[1:] or len(baseline_ranks) not in (1, len(ranks)):
        shapes = f"{list(ranks.shape)} and {list(baseline_ranks.shape)}"
        raise InputError(f"Ranks {shapes} do not match: rank both on the same dialogues.")
    return ranks - baseline_ranks


def degradation(ranks, baseline_ranks):
    """Which share of the queries got worse, stayed or got better, and how far -> Degradation."""
    change = rank_change(ranks, baseline_ranks)
    shares = [x.double().mean((0, 1)) for x in (change > 0, change == 0, change < 0)]
    change = change.double().flatten(0, 1)
    return Degradation(*shares, change.mean(0), change.quantile(0.5, dim=0))


def worse_than(ranks, baseline_ranks):
    """The share worse as a table [Q, R] for ``bootstrap``; subtract two to compare them."""
    return (rank_change(ranks, baseline_ranks) > 0).double().mean(0)


class Interval(NamedTuple):
    """A mean over dialogues and its bootstrap interval, per round [R]."""

    mean: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor

    def points(self, r=-1, digits=1, undecided="not told apart from zero"):
        """Round r in percentage points: "+4.1 points [+1.7, +6.7]: above zero"."""
        mean, low, high = (100 * float(part[r]) for part in self)
        said = f"{mean:+.{digits}f} points [{low:+.{digits}f}, {high:+.{digits}f}]"
        return f"{said}: {verdict(low, high, undecided)}"


def verdict(low, high, undecided="not told apart from zero"):
    """On which side of zero an interval lies, in words; ``undecided`` if it holds zero."""
    return "above zero" if low > 0 else "below zero" if high < 0 else undecided


def bootstrap(table, resamples=1_000, level=0.95, seed=0):
    """Mean over dialogues of ``table`` [Q, R] with its percentile bootstrap interval -> Interval.

    Dialogues are drawn with replacement, all their rounds together, since these are anything but
    independent. Give it ``per_dialogue(ranks, metric)``, ``worse_than(...)`` or a difference.
    """
    table = torch.as_tensor(table).double().cpu()
    if table.ndim != 2 or len(table) == 0:
        shape = list(table.shape)
        raise InputError(f"The table is {shape}: give one number a dialogue and round, [Q, R].")
    n = len(table)
    drawn = torch.randint(n, (resamples, n), generator=torch.Generator().manual_seed(seed))
    # How often each dialogue was drawn: with it every resample's mean is one matrix product.
    once = torch.ones_like(drawn, dtype=torch.double)
    times = torch.zeros(resamples, n, dtype=torch.double).scatter_add_(1, drawn, once)
    means = times @ table / n
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.double)
    return Interval(table.mean(0), *means.quantile(ends, dim=0))


def paired_difference(ranks_a, ranks_b, metric="recall", k=10, **options):
    """Metric of a minus metric of b on the same dialogues -> Interval; both may be lists of seeds.

    Pairing takes out what makes a dialogue hard for both. Seeds are averaged first: the interval
    says how far the dialogues decide, the spread over seeds is to be reported apart.
    """
    a, b = per_dialogue(ranks_a, metric, k), per_dialogue(ranks_b, metric, k)
    if a.shape != b.shape:
        shapes = f"{list(a.shape)} and {list(b.shape)}"
        raise InputError(f"Tables {shapes} cannot be paired: rank both on the same dialogues.")
    return bootstrap(a - b, **options)
