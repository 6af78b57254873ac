"""Keep the log of a training as CSV: it travels with a bundled model (postcards/data/logs).

python tests/tools/write_log.py runs/encoder/checkpoint.safetensors encoder.csv
"""

import json
import sys
from pathlib import Path

import pandas as pd

from adafuse_lite.files import read_all


def write_log(checkpoint, csv, every=10):
    """Keep every tenth step of a checkpoint's log as CSV."""
    log = json.loads(read_all(checkpoint, "train anew")[1]["log"])
    Path(csv).parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(log[::every]).to_csv(csv, index=False)


if __name__ == "__main__":
    write_log(*sys.argv[1:])
