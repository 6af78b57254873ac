"""Plays the 200 games whose results are bundled, and stores them: python -m adafuse_lite.game."""

import json
from pathlib import Path

from tqdm.auto import tqdm

from ..bank import load_bank
from ..sources import load_benchmark
from .play import GAMES, WAYS, hidden_postcards, simulate
from .searcher import Searcher
from .state import LAST_ROUND


def main(path=GAMES, count=200):
    """Play ``count`` games in each way to ask (5 minutes) and write their results to ``path``."""
    benchmark = load_benchmark("postcards", split="test")
    bank = load_bank("postcards", split="test")
    searcher = Searcher.postcards(benchmark, bank.corpus)
    bank.check(searcher.encoder.hash)
    targets, games = hidden_postcards(benchmark, count), {}
    scenes = [benchmark.scenes[target] for target in targets]
    for way, (choose, form) in WAYS.items():
        with tqdm(total=LAST_ROUND + 1, desc=way) as bar:
            step = bar.update
            played = simulate(searcher, scenes, targets, choose=choose, form=form, progress=step)
        games[way] = {name: rounds.tolist() for name, rounds in played.reached.items()}
    results = {
        "encoder": searcher.encoder.hash,
        "generator": searcher.generator.hash,
        "split": "test",
        "rounds": LAST_ROUND,
        "games": games,
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(results) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
