"""python -m adafuse_lite.bank --benchmark NAME --limit 24 --out DIR, alone or under torchrun."""

from ..build import main

main()
