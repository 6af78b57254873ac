"""Search: one product of queries and corpus, from which come ranks and the best pictures."""

import math

import torch

from .bank import read_field
from .checks import all_finite, first_not_finite
from .device import device_of
from .errors import InputError

QUERIES, PICTURES = 512, 4_096  # scored at once: 8 MB of scores, which stay in the cache


def scores_in_pieces(queries, corpus):
    """The cosines, piece by piece -> (rows of queries, rows of corpus, scores [q, c]).

    queries [n, d], corpus [N, d]. The memory of the scores is written over by the next piece.
    """
    memory = corpus.new_empty(min(QUERIES, len(queries)) * min(PICTURES, len(corpus)))
    for q in range(0, len(queries), QUERIES):
        some = queries[q : q + QUERIES]
        for c in range(0, len(corpus), PICTURES):
            pictures = corpus[c : c + PICTURES]
            scores = memory[: len(some) * len(pictures)].view(len(some), len(pictures))
            torch.mm(some, pictures.T, out=scores)
            yield slice(q, q + len(some)), slice(c, c + len(pictures)), scores


@torch.no_grad()
def top(query, corpus, k=10):
    """Scores and places [n, k] of the best ``k`` pictures, best first, by exact search.

    query [n, d], corpus [N, d]. Pictures of equal score come in any order.
    """
    query, k = _fitting(query, corpus).to(corpus.device), min(k, len(corpus))
    values = query.new_full((len(query), k), -math.inf)
    places = torch.zeros_like(values, dtype=torch.long)
    for rows, pictures, scores in scores_in_pieces(query, corpus.float()):
        here, at = scores.topk(min(k, scores.shape[1]), dim=1)
        both = torch.cat([values[rows], here], 1)
        values[rows], order = both.topk(k, dim=1)
        places[rows] = torch.cat([places[rows], at + pictures.start], 1).gather(1, order)
    return values, places


@torch.no_grad()
def ranks(queries, corpus, target, ties="optimistic"):
    """Rank of each query's target: how many pictures score higher (0-based, [n] of int64).

    queries [n, d], corpus [N, d], target [n] (row of the corpus). Pictures that score the same as
    the target come after it ("optimistic") or before it ("pessimistic"). Counting needs no sort, so
    copies of a picture tie exactly. Wrong shapes, targets outside the corpus and features that are
    not finite end in InputError.
    """
    queries, corpus, target = _checked(queries, corpus, target, ties)
    corpus, target, times = distinct(corpus, target)
    own = (queries * corpus[target]).sum(1, keepdim=True)
    higher = torch.zeros_like(target)
    for rows, pictures, scores in scores_in_pieces(queries, corpus):
        here = target[rows] - pictures.start
        mine = ((here >= 0) & (here < scores.shape[1])).nonzero()[:, 0]
        scores[mine, here[mine]] = own[rows][mine, 0]  # the product may differ in the last digit
        # 1 where a picture beats the target, else 0, written into the scores: sums are exact.
        beats = scores.gt_(own[rows]) if ties == "optimistic" else scores.ge_(own[rows])
        higher[rows] += (beats @ times[pictures]).long()
    return higher if ties == "optimistic" else higher - 1  # the target is as high as itself


@torch.no_grad()
def rank_table(model, bank, text="text", image="generated", ties="optimistic"):
    """Ranks [Q, R] (int64, CPU) of a fusion on a bank, in evaluation mode, on the model's device.

    ``text`` and ``image`` name the bank's fields that are fed: image="text" or "prompt" is the
    control without a picture, TextOnly with text="prompt" searches with the rewritten prompt.
    """
    device, training = device_of(model), model.training
    texts, images, corpus = (read_field(bank, name).to(device) for name in (text, image, "corpus"))
    model.eval()
    try:
        rounds = range(texts.shape[1])
        queries = torch.stack([model(texts[:, r], images[:, r], round=r).query for r in rounds], 1)
    finally:
        model.train(training)
    target = bank.target.to(device).repeat_interleave(queries.shape[1])
    return ranks(queries.flatten(0, 1), corpus, target, ties).view(queries.shape[:2]).cpu()


def distinct(corpus, target):
    """The different pictures of a corpus [N, d] -> corpus [M, d], target [n], copies of each [M].

    A product does not always score copies of a picture the same to the last digit, and they must
    tie: so it gets one of them.
    """
    ends = corpus[:, [0, -1]].cpu().double()
    key = ends[:, 0] * math.pi + ends[:, 1]  # copies share it, others hardly ever do
    _, place, times = key.unique(return_inverse=True, return_counts=True)
    if len(times) == len(corpus):
        return corpus, target, corpus.new_ones(len(corpus))
    first = torch.arange(len(corpus), device=corpus.device)  # for each picture, one that equals it
    alike = first[(times[place] > 1).to(first.device)]
    same = corpus[alike].cpu().unique(dim=0, return_inverse=True, return_counts=True)  # not on mps
    place, times = same[1].to(first.device), same[2].to(first.device)
    first[alike] = torch.empty_like(times).scatter_(0, place, alike)[place]
    kept, place, times = first.unique(return_inverse=True, return_counts=True)
    return corpus[kept], place[target], times.to(corpus.dtype)


def _fitting(queries, corpus):
    if not isinstance(queries, torch.Tensor):
        raise InputError(f"The queries are a {type(queries).__name__}: encode them first.")
    if queries.ndim != 2 or corpus.ndim != 2 or queries.shape[1] != corpus.shape[1]:
        shapes = f"{list(queries.shape)} and corpus {list(corpus.shape)}"
        raise InputError(f"Queries {shapes} do not fit together: give features [n, d] and [N, d].")
    return queries.float()


def _checked(queries, corpus, target, ties):
    """What ``ranks`` is given, as float32 and int64 on one device, or ``InputError``."""
    if ties not in ("optimistic", "pessimistic"):
        raise InputError(f"ties={ties!r} is unknown; say 'optimistic' or 'pessimistic'.")
    queries, corpus = _fitting(queries, corpus), corpus.float().to(queries.device)
    if 0 in (len(queries), len(corpus)):
        raise InputError(f"There are {len(queries)} queries and {len(corpus)} pictures; give some.")
    target = torch.as_tensor(target, device=queries.device)
    if target.shape != queries.shape[:1]:
        shape = list(target.shape)
        raise InputError(f"{len(queries)} queries and targets {shape}: give one target each.")
    if len(outside := ((target < 0) | (target >= len(corpus))).nonzero()):
        i = int(outside[0])
        fault = f"The target {int(target[i])} of query {i} is not in the corpus of {len(corpus)}"
        raise InputError(f"{fault}: add the picture or leave the dialogue out.")
    for name, x in (("query", queries), ("corpus picture", corpus)):
        if not all_finite(x):  # a NaN compares as "not higher" and would count as a perfect rank
            i = first_not_finite(x)[0]
            raise InputError(f"The features of {name} {i} are not finite numbers; encode it anew.")
    return queries, corpus, target.long()
