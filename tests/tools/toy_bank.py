"""A made-up feature bank in which text and picture each know a part of the target,
the picture only sometimes."""

from types import SimpleNamespace

import torch
import torch.nn.functional as F


def toy_bank(queries=60, rounds=3, width=12, corpus=200, seed=0):
    g = torch.Generator().manual_seed(seed)
    noise = lambda *shape: torch.randn(*shape, width, generator=g) / width**0.5
    pictures = F.normalize(noise(corpus), dim=-1)
    target = torch.randperm(corpus, generator=g)[:queries]
    wanted = pictures[target][:, None]
    text = F.normalize(
        wanted + torch.linspace(1.5, 1, rounds)[:, None] * noise(queries, rounds), dim=-1
    )
    prompt = F.normalize(wanted + 1.5 * noise(queries, rounds), dim=-1)
    lucky = torch.rand(queries, rounds, 1, generator=g) < 0.5
    drawn = F.normalize(torch.where(lucky, wanted, 0) + 0.7 * noise(queries, rounds), dim=-1)
    return SimpleNamespace(
        text=text, prompt=prompt, generated=drawn, target=target, corpus=pictures
    )
