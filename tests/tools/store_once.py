"""Store once what several banks of a folder hold alike, after banks were built anew.

python tests/tools/store_once.py adafuse_lite/postcards/data/banks
"""

import sys
from pathlib import Path

from adafuse_lite.files import make_folder, read_json


def store_once(banks):
    """Move files that several stored banks in the folder ``banks`` hold alike to its ``shared``.

    ``FeatureBank.load`` finds them there by their checksum.
    """
    holders = {}
    for card in sorted(Path(banks).glob("*/bank.json")):
        for field, checksum in read_json(card, "build the bank again")["fields"].items():
            holders.setdefault(checksum, []).append(card.parent / f"{field}.safetensors")
    for checksum, paths in holders.items():
        for path in filter(Path.exists, paths if len(paths) > 1 else ()):
            path.replace(make_folder(Path(banks, "shared")) / f"{checksum}.safetensors")


if __name__ == "__main__":
    store_once(sys.argv[1])
