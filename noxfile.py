"""Fresh starts: tests and one notebook in empty environments of other Pythons and versions.

    nox                                      newest versions with every Python, oldest with one
    nox -s newest-3.12                       one environment
    nox -s colab -- tests/unit/test_fusion.py    Colab's versions; only some tests

A start takes about twenty minutes on two cores, most of it the installation of PyTorch.
"""

import re
from pathlib import Path

import nox

DEPENDENCIES = nox.project.load_toml("pyproject.toml")["project"]["dependencies"]
COLAB = Path("tests/tools/colab.txt").resolve()

nox.options.sessions = ["newest", "oldest"]


def check(session, constraints=None):
    """Install with the given versions; run the chosen tests, or all of them and a notebook."""
    pinned = ["-c", str(constraints)] if constraints else []
    session.install(*pinned, "-e", ".[dev]")
    session.run("pytest", "-q", *(session.posargs or ["--ignore=tests/browser"]))
    if not session.posargs:
        session.run("python", "tests/tools/run_notebooks.py", "04_train")


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def newest(session):
    """What the package index offers today."""
    check(session)


@nox.session(python="3.11")
def oldest(session):
    """Every runtime dependency at its lower bound in pyproject.toml."""
    constraints = Path(session.create_tmp()) / "oldest.txt"
    pins = [re.sub(r"\s*>=\s*", "==", line) for line in DEPENDENCIES]
    constraints.write_text("\n".join(pins) + "\n", encoding="utf-8")
    check(session, constraints)


@nox.session(python="3.12")
def colab(session):
    """What Colab has preinstalled."""
    check(session, COLAB)
