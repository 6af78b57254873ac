"""Training on a bank as large as the real one,
wholly in GPU memory, against features moved batch by batch.

Skipped without a GPU. ``--quick`` runs it with tiny sizes on any device, so that it stays whole.
"""

import time
from types import SimpleNamespace

import torch
from head import FULL as HEAD
from head import QUICK as SMALL_HEAD
from head import Products
from measure import Row, in_turn, ratios, unit_vectors, wait
from torch.utils.data import DataLoader, Dataset

from adafuse_lite import AdaFuSE, fit, pick_device
from adafuse_lite.train import contrastive_loss, parameter_groups

# Pictures, dialogues, rounds, epochs (the first warms up and is not counted), batches,
# side of the peak's
# product
FULL = (50_000, 100_000, 11, 3, (128, 2_064), 8_192)
QUICK = (50, 64, 2, 2, (16,), 64)


class Watched(SimpleNamespace):
    """A small validation bank that notes when ``fit`` reads it:
    at its start, then after each epoch."""

    @property
    def text(self):
        wait(self.corpus.device)
        self.times.append(time.perf_counter())
        return self.generated


class Shown(Dataset):
    """The usual way: a dialogue at a random round, one by one, from the CPU's memory."""

    def __init__(self, bank):
        self.bank = bank

    def __len__(self):
        return len(self.bank.target)

    def __getitem__(self, i):
        r = int(torch.randint(self.bank.text.shape[1], ()))
        return (
            self.bank.text[i, r],
            self.bank.generated[i, r],
            self.bank.corpus[self.bank.target[i]],
        )


def synthetic(pictures, dialogues, rounds, width, device):
    text, drawn = (unit_vectors(dialogues, rounds, width, device=device, seed=s) for s in (1, 2))
    corpus = unit_vectors(pictures, width, device=device, seed=3)
    return SimpleNamespace(
        text=text,
        generated=drawn,
        corpus=corpus,
        target=torch.arange(dialogues, device=device) % pictures,
    )


def by_fit(head, bank, epochs, batch, device):
    """Seconds of each epoch but the first."""
    few = unit_vectors(100, 1, head.feature_dim, device=device)
    watched = Watched(
        generated=few, corpus=few[:, 0], target=torch.arange(100, device=device), times=[]
    )
    fit(head, bank, watched, epochs=epochs, batch_size=batch, device=device, progress=False)
    return [b - a for a, b in zip(watched.times[1:], watched.times[2:])]


def by_loader(head, bank, epochs, batch, device, workers):
    """The same steps on features that a DataLoader collects on the CPU, pins and sends."""
    loader = DataLoader(
        Shown(bank),
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
    )
    optimizer = torch.optim.AdamW(parameter_groups(head, 0.05), lr=1e-3, fused=True)
    taken = []
    head.train()
    for _ in range(epochs):
        wait(device)
        start = time.perf_counter()
        for batch_of_three in loader:
            text, image, wanted = (x.to(device, non_blocking=True) for x in batch_of_three)
            loss = contrastive_loss(head(text, image).query, wanted, head.logit_scale.exp())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(head.parameters(), 3.0)
            optimizer.step()
        wait(device)
        taken.append(time.perf_counter() - start)
    return taken[1:]


def measure(quick=False):
    device = pick_device()
    if device.type == "cpu" and not quick:
        return [Row("skipped: there is no GPU here", [], "")]
    (pictures, dialogues, rounds, epochs, batches, side), sizes = (
        (QUICK, SMALL_HEAD) if quick else (FULL, HEAD)
    )
    bank = synthetic(pictures, dialogues, rounds, sizes[0], device)
    on_cpu = SimpleNamespace(**{name: x.cpu() for name, x in vars(bank).items()})
    rows = []
    if device.type == "cuda":
        held = torch.cuda.memory_allocated(device) / 2**20
        rows.append(Row("the bank in the GPU's memory", [held], "MB"))

    square = unit_vectors(side, side, device=device)
    seconds = in_turn({"peak": lambda: square @ square}, 5, device)["peak"]
    peak = 2 * side**3 / min(seconds)
    speed = [2 * side**3 / s / 1e12 for s in seconds]
    rows.append(Row(f"measured peak: float32 product of {side:,} x {side:,}", speed, "TFLOP/s"))
    for batch in batches:
        fresh = lambda: AdaFuSE(*sizes).to(device)
        inside, moved = [], []
        for _ in range(1 if quick else 2):  # in turn
            inside += by_fit(fresh(), bank, epochs, batch, device)
            moved += by_loader(fresh(), on_cpu, epochs, batch, device, workers=0 if quick else 4)
        flops = Products(fresh(), batch, step=True).flops * (dialogues // batch)
        where = f"batches of {batch:,}"
        rows += [
            Row(f"{where}: all in GPU memory, by fit", [1 / s for s in inside], "epochs/s"),
            Row(
                f"{where}: moved batch by batch by a DataLoader", [1 / s for s in moved], "epochs/s"
            ),
            Row(f"{where}: DataLoader : fit", ratios(moved, inside), "times", ">= 1"),
            Row(
                f"{where}: fit's share of the measured peak",
                [flops / s / peak for s in inside],
                "share",
            ),
        ]
    return rows
