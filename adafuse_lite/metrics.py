"""Metrics: from queries to ranks, from ranks to numbers with intervals.

A rank table [Q, R] holds, for every dialogue and round, how many pictures of the corpus beat the target (0 is best).
Every metric is a mean over dialogues, so each starts as a table of one number a dialogue and round; intervals resample
dialogues with all their rounds. A list of rank tables (one a seed) stands for their average, dialogue by dialogue.
"""

import math
from typing import NamedTuple

import torch

from .errors import InputError

QUERIES, PICTURES = (
    512,
    4_096,
)  # scored at once: 8 MB of scores, which stay in the processor's cache


def all_finite(x):
    """Whether x holds no NaN or infinity. A sum shows either, and costs a thirtieth of looking at each number."""
    return bool(x.sum().isfinite()) or bool(x.isfinite().all())


# --- ranks ------------------------------------------------------------------------------------------------------------
def distinct(corpus, target):
    """The different pictures of a corpus [N, d] -> corpus [M, d], target in it [n], how often each is there [M].

    A product does not always score copies of a picture the same to the last digit, and they must tie: so it gets one of them.
    """
    key = (
        corpus[:, 0].double() * math.pi + corpus[:, -1].double()
    )  # copies share it, others hardly ever do
    _, place, times = key.unique(return_inverse=True, return_counts=True)
    if len(times) == len(corpus):
        return corpus, target.long(), corpus.new_ones(len(corpus))
    first = torch.arange(len(corpus), device=corpus.device)  # for each picture, one that equals it
    alike = first[times[place] > 1]
    _, place, times = corpus[alike].unique(dim=0, return_inverse=True, return_counts=True)
    first[alike] = torch.empty_like(times).scatter_(0, place, alike)[place]
    kept, place, times = first.unique(return_inverse=True, return_counts=True)
    return corpus[kept], place[target.long()], times.to(corpus.dtype)


@torch.no_grad()
def ranks(queries, corpus, target, ties="optimistic"):
    """Rank of each query's target: how many pictures score higher (0-based, [n] of int64, on the queries' device).

    queries [n, d], corpus [N, d], target [n] (row of the corpus). Pictures that score the same as the target come after
    it ("optimistic") or before it ("pessimistic"). Counting needs no sort, and the order of the corpus matters
    at most in a score's last digit; copies of a picture tie exactly.
    Wrong shapes, targets outside the corpus and features that are not finite end in InputError.
    """
    if ties not in ("optimistic", "pessimistic"):
        raise InputError(f"ties={ties!r} is unknown; say 'optimistic' or 'pessimistic'.")
    if (
        queries.ndim != 2
        or corpus.ndim != 2
        or 0 in (len(queries), len(corpus))
        or queries.shape[1] != corpus.shape[1]
    ):
        raise InputError(
            f"Queries {list(queries.shape)} and corpus {list(corpus.shape)} do not fit together; "
            "encode both with one encoder, as [n, d] and [N, d]."
        )
    target = torch.as_tensor(target, device=queries.device)
    if target.shape != queries.shape[:1]:
        raise InputError(
            f"There are {len(queries)} queries and targets {list(target.shape)}; give one target each."
        )
    if len(outside := ((target < 0) | (target >= len(corpus))).nonzero()):
        i = int(outside[0])
        raise InputError(
            f"The target {int(target[i])} of query {i} is not in the corpus of {len(corpus)} pictures; "
            "add the picture to the corpus or leave the dialogue out."
        )
    for name, x in (("query", queries), ("corpus picture", corpus)):
        # A NaN compares as "not higher" and would count as a perfect rank.
        if not all_finite(x):
            i = int((~torch.isfinite(x).all(1)).nonzero()[0])
            raise InputError(f"The features of {name} {i} are not finite numbers; encode it anew.")
    queries, corpus = queries.float(), corpus.float().to(queries.device)
    corpus, target, times = distinct(corpus, target)
    own = (queries * corpus[target]).sum(1, keepdim=True)
    memory = corpus.new_empty(
        min(QUERIES, len(queries)) * min(PICTURES, len(corpus))
    )  # written over and over
    higher = torch.zeros_like(target)
    for q, t, o, count in zip(*(x.split(QUERIES) for x in (queries, target, own, higher))):
        for start in range(0, len(corpus), PICTURES):
            pictures, weights = corpus[start : start + PICTURES], times[start : start + PICTURES]
            scores = torch.mm(q, pictures.T, out=memory[: len(q) * len(pictures)].view(len(q), -1))
            here = ((t >= start) & (t < start + len(pictures))).nonzero()[:, 0]
            scores[here, t[here] - start] = o[
                here, 0
            ]  # computed another way it may differ in the last digit
            # 1 where a picture beats the target, else 0, written into the scores: floats are summed fastest, and exactly.
            count += ((scores.gt_(o) if ties == "optimistic" else scores.ge_(o)) @ weights).long()
    return higher if ties == "optimistic" else higher - 1  # the target is as high as itself


def read_field(bank, name):
    """A bank's features ``name`` as float32 ([Q, R, D], or the corpus [N, D]), refused if some are not finite."""
    x = getattr(bank, name, None)
    if not isinstance(x, torch.Tensor) or x.ndim != (2 if name == "corpus" else 3):
        raise InputError(
            f"The bank has no features {name!r}; choose text, prompt or generated, or build it anew."
        )
    if not all_finite(x):
        entry = (~torch.isfinite(x).all(-1)).nonzero()[0].tolist()
        where = f"picture {entry[0]}" if name == "corpus" else f"query {entry[0]}, round {entry[1]}"
        raise InputError(
            f"The bank's {name} features of {where} are not finite numbers; build the bank anew."
        )
    return x.float()


def device_of(model):
    """Where the model's parameters and buffers are."""
    return next(
        (x.device for group in (model.parameters(), model.buffers()) for x in group),
        torch.device("cpu"),
    )


@torch.no_grad()
def rank_table(model, bank, text="text", image="generated", ties="optimistic"):
    """Ranks [Q, R] (int64, CPU) of a fusion on a bank, in evaluation mode, on the model's device.

    ``text`` and ``image`` name the bank's fields that are fed: image="text" or "prompt" is the control without a
    picture, and TextOnly with text="prompt" searches with the rewritten prompt.
    """
    device, training = device_of(model), model.training
    texts, images, corpus = (read_field(bank, name).to(device) for name in (text, image, "corpus"))
    model.eval()
    try:
        queries = torch.stack(
            [model(texts[:, r], images[:, r], round=r).query for r in range(texts.shape[1])], 1
        )
    finally:
        model.train(training)
    target = bank.target.to(device).repeat_interleave(queries.shape[1])
    return ranks(queries.flatten(0, 1), corpus, target, ties).view(queries.shape[:2]).cpu()


# --- metrics ----------------------------------------------------------------------------------------------------------
def _tables(tables):
    """One rank table [Q, R], or a list of them (seeds), as [S, Q, R]."""
    tables = [tables] if isinstance(tables, torch.Tensor) else list(tables)
    if not tables or any(t.ndim != 2 or t.shape != tables[0].shape or 0 in t.shape for t in tables):
        raise InputError(
            f"Rank tables of shapes {[list(t.shape) for t in tables]} were given; "
            "give one [Q, R], or several of equal shape."
        )
    return torch.stack(tables)


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
    """The metric ("hits", "recall", "mrr" or "bri") before its mean over dialogues: [Q, R], averaged over seeds."""
    if metric not in METRICS:
        raise InputError(f"The metric {metric!r} is unknown; choose one of {', '.join(METRICS)}.")
    return METRICS[metric](_tables(ranks), k).double().mean(0)


def hits_at_k(ranks, k=10):
    """Hits@k up to each round [R]: the share of dialogues with the target in the first k in *some* round so far (ChatIR).

    It never falls: noise alone raises it. Read it beside ``recall_at_k``.
    """
    return per_dialogue(ranks, "hits", k).mean(0)


def recall_at_k(ranks, k=10):
    """Recall@k at each round [R]: the share of dialogues with the target in the first k in that round."""
    return per_dialogue(ranks, "recall", k).mean(0)


def mrr(ranks):
    """Mean reciprocal rank at each round [R]: the mean of 1 / (rank + 1)."""
    return per_dialogue(ranks, "mrr").mean(0)


def bri(ranks):
    """Best log Rank Integral up to each round [R], lower is better; the last is the published number (PlugIR).

    With pi_t the best rank so far, counted from 1: the trapezoid mean over rounds of ln(pi_t). At round 0 ln(pi_0).
    """
    return per_dialogue(ranks, "bri").mean(0)


class Degradation(NamedTuple):
    """A searcher against a baseline, per round [R]: shares of the queries, and by how many ranks (more is worse)."""

    worse: torch.Tensor
    equal: torch.Tensor
    better: torch.Tensor
    mean_change: torch.Tensor
    median_change: torch.Tensor


def rank_change(ranks, baseline_ranks):
    """rank - baseline's rank for every dialogue and round: [S, Q, R] (S seeds; one without a list)."""
    ranks, baseline_ranks = _tables(ranks), _tables(baseline_ranks)
    if ranks.shape[1:] != baseline_ranks.shape[1:] or len(baseline_ranks) not in (1, len(ranks)):
        raise InputError(
            f"Ranks {list(ranks.shape)} and baseline ranks {list(baseline_ranks.shape)} do not match; "
            "rank both on the same dialogues."
        )
    return ranks - baseline_ranks


def degradation(ranks, baseline_ranks):
    """Which share of the queries got worse, stayed, got better than the baseline, and how far -> Degradation."""
    change = rank_change(ranks, baseline_ranks)
    shares = [x.double().mean((0, 1)) for x in (change > 0, change == 0, change < 0)]
    change = change.double().flatten(0, 1)
    return Degradation(*shares, change.mean(0), change.quantile(0.5, dim=0))


def worse_than(ranks, baseline_ranks):
    """The share worse as a table [Q, R] for ``bootstrap``; subtract two to compare with another disturbance."""
    return (rank_change(ranks, baseline_ranks) > 0).double().mean(0)


# --- intervals --------------------------------------------------------------------------------------------------------
class Interval(NamedTuple):
    """A mean over dialogues and its bootstrap interval, per round [R]."""

    mean: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor


def bootstrap(table, resamples=1_000, level=0.95, seed=0):
    """Mean over dialogues of ``table`` [Q, R] with its percentile bootstrap interval -> Interval.

    Dialogues are drawn with replacement, all their rounds together, since the rounds of one are anything but
    independent. Give it ``per_dialogue(ranks, metric)``, ``worse_than(...)`` or a difference of such tables.
    """
    table = torch.as_tensor(table).double().cpu()
    if table.ndim != 2 or len(table) == 0:
        raise InputError(
            f"The table is {list(table.shape)}; give one number a dialogue and round, [Q, R]."
        )
    n = len(table)
    drawn = torch.randint(n, (resamples, n), generator=torch.Generator().manual_seed(seed))
    # How often each dialogue was drawn: with it every resample's mean is one matrix product.
    times = torch.zeros(resamples, n, dtype=torch.double).scatter_add_(
        1, drawn, torch.ones_like(drawn, dtype=torch.double)
    )
    means = times @ table / n
    low, high = means.quantile(
        torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.double), dim=0
    )
    return Interval(table.mean(0), low, high)


def paired_difference(ranks_a, ranks_b, metric="recall", k=10, **options):
    """Metric of a minus metric of b on the same dialogues -> Interval; both may be lists of seeds.

    Pairing takes out what makes a dialogue hard for both. Seeds are averaged first: the interval says how far the
    dialogues decide, the spread over seeds is to be reported apart.
    """
    a, b = per_dialogue(ranks_a, metric, k), per_dialogue(ranks_b, metric, k)
    if a.shape != b.shape:
        raise InputError(
            f"Tables {list(a.shape)} and {list(b.shape)} cannot be paired; rank both on the same dialogues."
        )
    return bootstrap(a - b, **options)
