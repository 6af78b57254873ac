"""Benchmarks: a corpus of pictures and dialogues about some of them (ChatIR, NeurIPS 2023)."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from .checks import refusing
from .errors import InputError
from .files import open_picture
from .reformulate import rewrite

ROUNDS = 11  # a caption and ten answers


@dataclass(frozen=True)
class Dialogue:
    """One search: the picture ``img``, and as ``entries`` a caption and ten "question? answer"."""

    img: str
    entries: tuple


def tidy(entry):
    """An entry without stray "Answer:", newlines and blanks at its ends."""
    return " ".join(entry.replace("Answer:", " ").split())


@dataclass(frozen=True, repr=False)
class Benchmark:
    """``dialogues`` and the ``corpus`` (names of pictures) they search.

    ``query`` is a dialogue's number below. ``root``: folder of the pictures. ``open``: a function
    from a name to a picture, where they are in no folder, and ``version``: what changes when those
    pictures do. ``scenes`` of the corpus and what is ``stated`` of them: of a known world, else
    None. ``prompts``: ready-made ones. ``skipped``: files left out because they are no pictures.
    """

    name: str
    style: str
    split: str
    dialogues: list
    corpus: list
    root: Path | None = None
    open: Callable | None = None
    version: str | None = None
    scenes: list | None = None
    stated: list | None = None
    prompts: list | None = None
    rounds: int = ROUNDS
    skipped: tuple = ()

    def __repr__(self):
        size = f"{len(self.dialogues):,} dialogues, {len(self.corpus):,} pictures"
        return f"Benchmark({self.name}/{self.style}/{self.split}: {size})"

    @cached_property
    def places(self):
        """Where in the corpus each picture is: {name: index}."""
        return {name: i for i, name in enumerate(self.corpus)}

    @cached_property
    def targets(self):
        """The corpus index of each dialogue's picture."""
        return [self.places[d.img] for d in self.dialogues]

    def text(self, query, round):
        """All that was said up to this round, joined as ChatIR does."""
        return ", ".join(self.dialogues[query].entries[: round + 1])

    def prompt(self, query, round):
        """The same rewritten for the generator: a ready-made prompt if there is one, or by rule."""
        if self.prompts is not None:
            return self.prompts[query][round]
        return rewrite(self.dialogues[query].entries[: round + 1])

    def facts(self, query, round):
        """What the text states up to this round, true or not: {attribute: value}, or None."""
        return None if self.stated is None else self.stated[query][round]

    def picture(self, name):
        """The picture called ``name`` (``PIL.Image``, RGB)."""
        if self.open is not None:
            if name not in self.places:
                raise InputError(f"{name} is not in the corpus of {self.name}: see .corpus.")
            return self.open(name)
        path, fault = Path(self.root, name), f"{name!a} can be no file's name"
        with refusing((ValueError, OSError), fault, "mend it in the corpus list"):
            is_inside = path.resolve().is_relative_to(Path(self.root).resolve())
        if not is_inside:
            raise InputError(f"{name} leads out of {self.root}: name pictures relative to it.")
        return open_picture(path)

    @cached_property
    def report(self):
        """How often the habits of the real files occur, and pictures that are missing, by name."""
        entries = [e for d in self.dialogues for e in d.entries]
        answers = [e for d in self.dialogues for e in d.entries[1:]]
        paths = [] if self.open else [(n, os.path.join(self.root, n)) for n in self.corpus]
        missing = [name for name, path in paths if not os.path.exists(path)]
        return {
            "entries": len(entries),
            "stray 'Answer:'": sum("Answer:" in e for e in entries),
            "newlines": sum("\n" in e for e in entries),
            "blanks at an end": sum(e != e.strip() for e in entries),
            "without '?'": sum("?" not in e for e in answers),
            "empty answers": sum("?" in e and not tidy(e.partition("?")[2]) for e in answers),
            # most of these do hold an answer, and then a second question that nobody answers
            "ends in a question": sum(e.rstrip().endswith("?") for e in answers),
            "missing pictures": len(missing),
            "first missing": missing[:3],
            "unreadable pictures left out": len(self.skipped),
            "first left out": list(self.skipped[:10]),
        }

    def limit(self, queries, pictures=None):
        """The first dialogues only, over their targets and the first pictures of the corpus."""
        first = range(len(self.corpus) if pictures is None else min(pictures, len(self.corpus)))
        kept = sorted({*self.targets[:queries], *first})
        pick = lambda values: values and [values[i] for i in kept]
        return replace(
            self,
            dialogues=self.dialogues[:queries],
            corpus=pick(self.corpus),
            scenes=pick(self.scenes),
            stated=self.stated and self.stated[:queries],
            prompts=self.prompts and self.prompts[:queries],
        )
