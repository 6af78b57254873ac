"""A fresh start with other Pythons and other versions: an empty environment each, the unit tests, one notebook.

    python tests/tools/fresh_start.py                     every Python that is found: newest versions; the oldest one: oldest, too
    python tests/tools/fresh_start.py python3.12:newest python3.11:oldest python3.12:colab

"oldest" takes each runtime dependency at its lower bound in pyproject.toml, "colab" the versions that Colab brings.
Takes about twenty minutes a start on two cores, most of it the installation of PyTorch, so it is no part of CI.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from notebook_kit import ROOT

DEPENDENCIES = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "dependencies"
]


def pins(which):
    """Lines of a constraints file."""
    if which == "oldest":
        return [re.sub(r"\s*>=\s*", "==", line) for line in DEPENDENCIES]
    if which == "colab":
        from test_setup import COLAB

        return ["==".join(line.split()) for line in COLAB.split(",")]
    return []


def start(python, which):
    """Install and test in an empty environment: a line that says what happened."""
    begun, said = time.monotonic(), f"{python}, {which} versions"
    with tempfile.TemporaryDirectory() as place:
        there = Path(place)
        clone = there / "adafuse-lite"
        subprocess.run(["git", "clone", "-q", f"file://{ROOT}", str(clone)], check=True)
        (there / "pins.txt").write_text("\n".join(pins(which)) + "\n", encoding="utf-8")
        inside = str(clone / ".venv" / "bin" / "python")
        steps = {
            "venv": [python, "-m", "venv", ".venv"],
            "install": [
                inside,
                "-m",
                "pip",
                "install",
                "-q",
                "-c",
                str(there / "pins.txt"),
                "-e",
                ".[dev]",
            ],
            "unit tests": [inside, "-m", "pytest", "-q", "--ignore", "tests/browser"],
            "04_train, smallest": [inside, "tests/tools/run_notebooks.py", "04_train"],
        }
        for name, command in steps.items():
            done = subprocess.run(command, cwd=clone, capture_output=True, text=True)
            last = ([line for line in done.stdout.splitlines() if line.strip()] or [""])[-1]
            print(
                f"  {said}: {name}: {'passed' if done.returncode == 0 else 'FAILED'} {last[:110]}",
                flush=True,
            )
            if done.returncode:
                print(done.stdout[-4000:], done.stderr[-2000:], flush=True)
                return f"{said}: {name} failed"
    return f"{said}: passed in {(time.monotonic() - begun) / 60:.0f} minutes"


def main():
    found = [p for p in ("python3.11", "python3.12", "python3.13", "python3.14") if shutil.which(p)]
    wanted = sys.argv[1:] or [*(f"{p}:newest" for p in found), *(f"{p}:oldest" for p in found[:1])]
    results = [start(*one.split(":")) for one in wanted]
    print("\n".join(results))
    sys.exit(any(not r.endswith("minutes") for r in results))


if __name__ == "__main__":
    main()
