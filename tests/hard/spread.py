"""How far trained numbers spread, which is what the bands in tests and notebooks rest on: writes
spread.json beside this file.

    python tests/hard/spread.py          about five minutes on two cores

Twelve seeds of 04_train's training; and four of them again with another number of threads, which
adds the same numbers in another order, as another machine does.
"""

import json
from dataclasses import replace
from pathlib import Path

import torch
from tqdm.auto import tqdm

from adafuse_lite import AdaFuSE, fit, load_bank, rank_table, recall_at_k, seed_everything
from adafuse_lite.postcards.study import SETTINGS, SIZES

HERE = Path(__file__).parent


def train(seed, threads, banks):
    """Ranks on the test split of 04_train's head with this seed."""
    torch.set_num_threads(threads)
    seed_everything(seed)
    model = AdaFuSE(banks["test"].text.shape[-1], **SIZES)
    picking = replace(banks["validation"], corpus=banks["validation"].corpus[:3000])
    fit(model, banks["train"], picking, seed=seed, device="cpu", progress=False, **SETTINGS)
    return rank_table(model, banks["test"])


def main():
    banks = {
        split: load_bank("postcards", split=split) for split in ("train", "validation", "test")
    }
    tables = {seed: train(seed, 2, banks) for seed in tqdm(range(12), desc="two threads")}
    again = {seed: train(seed, 1, banks) for seed in tqdm(range(4), desc="one thread")}
    recall = {seed: recall_at_k(table).tolist() for seed, table in tables.items()}
    apart = {
        seed: float((recall_at_k(table) - recall_at_k(tables[seed])).abs().max())
        for seed, table in again.items()
    }
    between = [
        float((recall_at_k(tables[s]) - recall_at_k(tables[s + 1])).abs().max()) for s in range(11)
    ]
    found = {
        "torch": torch.__version__,
        "recall at 10 by round": recall,
        "largest difference, one thread": apart,
        "largest difference, next seed": between,
    }
    (HERE / "spread.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
