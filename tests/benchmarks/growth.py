"""How time grows with corpus, queries,
rounds and the head's batch: slopes on two logarithmic axes."""

from types import SimpleNamespace

import numpy as np
import torch
from measure import Row, in_turn, unit_vectors
from protocol import product, product_at_once

from adafuse_lite import AdaFuSE, TextOnly, pick_device, rank_table, ranks

WIDTH = 256  # a million pictures take 1 GB
QUERIES, CORPUS = 256, 10_000  # what stays when something else grows
SIZES = {
    "corpus": (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000),
    "queries": (100, 300, 1_000, 3_000, 10_000, 30_000),
    "rounds": (1, 2, 3, 5, 7, 9, 11),
    "batch of the head": (32, 64, 128, 256, 512, 1_024, 2_048, 4_096),
}
QUICK_SIZES = {name: sizes[:4] for name, sizes in SIZES.items()}
SKIP = 2  # the smallest sizes, where fixed costs and the caches decide


def tasks(sizes, device):
    """{what grows: {size: function}}; the largest inputs are made once and cut."""
    vectors = lambda *shape: unit_vectors(*shape, WIDTH, device=device)
    target = lambda n, pictures: torch.arange(n, device=device) % pictures
    most = vectors(max(sizes["corpus"]))
    few, corpus = vectors(QUERIES), most[: min(CORPUS, len(most))]
    queries = vectors(max(sizes["queries"]))
    told = vectors(QUERIES, max(sizes["rounds"]))
    bank = lambda r: SimpleNamespace(
        text=told[:, :r], generated=told[:, :r], corpus=corpus, target=target(QUERIES, len(corpus))
    )
    head, features = AdaFuSE(WIDTH).to(device).eval(), vectors(max(sizes["batch of the head"]))
    return {
        "corpus": {
            n: lambda n=n: ranks(few, most[:n], target(QUERIES, n)) for n in sizes["corpus"]
        },
        "corpus, bare product": {n: lambda n=n: product(few, most[:n]) for n in sizes["corpus"]},
        "corpus, bare product, whole corpus at once": {
            n: lambda n=n: product_at_once(few, most[:n]) for n in sizes["corpus"]
        },
        "queries": {
            n: lambda n=n: ranks(queries[:n], corpus, target(n, len(corpus)))
            for n in sizes["queries"]
        },
        "rounds": {
            r: lambda r=r: rank_table(TextOnly().to(device), bank(r)) for r in sizes["rounds"]
        },
        "batch of the head": {
            n: torch.no_grad()(lambda n=n: head(features[:n], features[:n]))
            for n in sizes["batch of the head"]
        },
    }


def measure(quick=False):
    device, rows = pick_device(), []
    for name, ways in tasks(QUICK_SIZES if quick else SIZES, device).items():
        taken = in_turn(ways, 3 if quick else 7, device)
        sizes = np.array(list(taken), float)
        seconds = np.array(list(taken.values()))  # [sizes, runs]
        slope = np.polyfit(np.log(sizes[SKIP:]), np.log(seconds[SKIP:]), 1)[0]
        points = [[int(n), float(s)] for n, s in zip(sizes, np.median(seconds, 1))]
        rows.append(
            Row(
                f"{name}: {sizes[SKIP]:,.0f} to {sizes[-1]:,.0f}",
                slope.tolist(),
                "slope",
                "" if "bare" in name else "<= 1.05",
                points,
            )
        )
    return rows
