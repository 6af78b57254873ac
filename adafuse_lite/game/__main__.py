"""Plays the 200 games whose results are bundled, and stores them: python -m adafuse_lite.game."""

import json

from tqdm.auto import tqdm

from ..bank import load_bank
from ..sources import load_benchmark
from . import WAYS, Searcher, hidden_postcards, simulate
from .play import GAMES
from .state import LAST_ROUND


def main(path=GAMES, count=200):
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
    main()
