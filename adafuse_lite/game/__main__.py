"""Plays 200 games in each way to ask, and stores the results: python -m adafuse_lite.game OUT."""

import argparse
import json
from pathlib import Path

from tqdm.auto import tqdm

from ..bank import load_bank
from ..sources import load_benchmark
from . import WAYS, Searcher, hidden_postcards, simulate
from .state import LAST_ROUND


def main(path, count=200):
    """Play ``count`` games in each way to ask and write their results to ``path`` (5 minutes)."""
    benchmark, bank = (load("postcards", split="test") for load in (load_benchmark, load_bank))
    searcher = Searcher.postcards(benchmark, bank.corpus)
    bank.check(searcher.encoder.hash)
    targets, games = hidden_postcards(benchmark, count), {}
    scenes = [benchmark.scenes[target] for target in targets]
    bar = tqdm(total=len(WAYS) * (LAST_ROUND + 1))
    for way in WAYS:
        played = simulate(searcher, scenes, targets, way=way, progress=bar.update)
        games[way] = {name: rounds.tolist() for name, rounds in played.reached.items()}
    models = {"encoder": searcher.encoder.hash, "generator": searcher.generator.hash}
    results = {**models, "split": "test", "rounds": LAST_ROUND, "games": games}
    path.write_text(json.dumps(results) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m adafuse_lite.game", description=__doc__)
    parser.add_argument("out", type=Path, help="the JSON file of the results")
    main(parser.parse_args().out)
