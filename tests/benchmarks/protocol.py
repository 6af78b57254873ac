"""The evaluation protocol:
ranks of 2,064 dialogues x 11 rounds among 50,000 pictures of 256 numbers."""

import sys

import torch
from measure import Row, in_child, in_turn, peak_above, ratios, unit_vectors

from adafuse_lite import pick_device, ranks
from adafuse_lite.search import PICTURES, QUERIES

FULL, QUICK = (2_064, 50_000, 256, 11), (100, 2_000, 32, 2)  # queries, pictures, numbers, rounds
BATCH = 500  # queries that are sorted together


def sorting(queries, corpus, target):
    """How the field's evaluations find ranks:
    sort all pictures for each query, see where the target went."""
    found = []
    for q, t in zip(queries.split(BATCH), target.split(BATCH)):
        order = torch.argsort(q @ corpus.T, descending=True, dim=1)
        found.append((order == t[:, None]).nonzero()[:, 1])
    return torch.cat(found)


def product(queries, corpus):
    """The limit: all scores once, in the batches of ``ranks``, into the same memory."""
    memory = queries.new_empty(min(len(queries), QUERIES) * min(len(corpus), PICTURES))
    for q in queries.split(QUERIES):
        for pictures in corpus.split(PICTURES):
            torch.mm(
                q, pictures.T, out=memory[: len(q) * len(pictures)].view(len(q), len(pictures))
            )


def product_at_once(queries, corpus):
    """The same with all pictures in one product,
    as many queries at a time as give 64 MB of scores (at least 64)."""
    rows = min(len(queries), max(64, 16_000_000 // len(corpus)))
    memory = queries.new_empty(rows, len(corpus))
    for q in queries.split(rows):
        torch.mm(q, corpus.T, out=memory[: len(q)])


def inputs(sizes, device):
    n, pictures, width, _ = sizes
    queries, corpus = (unit_vectors(m, width, device=device, seed=m) for m in (n, pictures))
    return queries, corpus, torch.arange(n, device=device) % pictures


WAYS = {
    "ranks": ranks,
    "argsort": sorting,
    "bare product": lambda q, c, t: product(q, c),
    "bare product, whole corpus at once": lambda q, c, t: product_at_once(q, c),
}


def measure(quick=False):
    device, sizes = pick_device(), QUICK if quick else FULL
    given = inputs(sizes, device)
    found, by_order = ranks(*given), sorting(*given)
    agree = (found == by_order).float().mean().item()
    # Scores of other products may differ in the last digit,
    # and equal ones have no order of their own.
    assert agree > 0.99 and (found - by_order).abs().max() <= 1, (
        "counting and sorting must find the same ranks"
    )

    taken = in_turn(
        {name: lambda way=way: way(*given) for name, way in WAYS.items()}, sizes[3], device
    )
    ours = taken["ranks"]
    rows = [Row(f"{name}, a round", s, "s") for name, s in taken.items()]
    rows += [
        Row(f"{name}, all {sizes[3]} rounds", [sum(taken[name])], "s")
        for name in ("ranks", "argsort")
    ]
    rows += [
        Row("argsort : ranks", ratios(taken["argsort"], ours), "times", ">= 5"),
        Row("ranks : bare product", ratios(ours, taken["bare product"]), "times", "<= 1.3"),
        Row(
            "ranks : bare product, whole corpus at once",
            ratios(ours, taken["bare product, whole corpus at once"]),
            "times",
        ),
    ]
    for name in ("ranks", "argsort", "bare product"):
        peak = [in_child(__file__, name, *sizes) for _ in range(1 if quick else 3)]
        rows.append(Row(f"{name}, peak memory above features", peak, "MB"))
    return rows


if __name__ == "__main__":  # in a process of its own: the peak of one way
    way, *sizes = sys.argv[1:]
    device = pick_device()
    given = inputs([int(s) for s in sizes], device)
    WAYS[way](
        given[0][:2], given[1][:64], given[2][:2]
    )  # what the libraries set up once is not the way's
    print(peak_above(lambda: WAYS[way](*given), device))
