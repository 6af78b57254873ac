"""Benchmarks: a corpus of pictures and dialogues about some of them (ChatIR, NeurIPS 2023)."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from .checks import first_line
from .errors import InputError
from .files import open_picture
from .reformulate import rewrite

ROUNDS = 11  # a caption and ten answers


@dataclass(frozen=True)
class Dialogue:
    """One search: ``img`` is the picture looked for, ``entries`` a caption and ten strings "question? answer"."""

    img: str
    entries: tuple


# --- folders ----------------------------------------------------------------------------------------------------------
def tidy(entry):
    """An entry without stray "Answer:", newlines and blanks at its ends."""
    return " ".join(entry.replace("Answer:", " ").split())


@dataclass(frozen=True)
class Benchmark:
    """``dialogues`` and the ``corpus`` (names of pictures) they search; ``query`` is a dialogue's number below.

    ``root``: folder of the pictures. ``open``: a function from a name to a picture, where they are in no folder, and
    ``version``: what changes when those pictures do.
    ``scenes``: of the corpus pictures, where the world is known (Postcards), else None. ``prompts``: ready-made ones.
    ``skipped``: files that were left out because they are no pictures.
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
        """The same rewritten for the generator (DAR): a ready-made prompt if there is one, else by rule."""
        if self.prompts is not None:
            return self.prompts[query][round]
        return rewrite(self.dialogues[query].entries[: round + 1])

    def facts(self, query, round):
        """What the text states up to this round, true or not: {attribute: value}; None where the world is unknown."""
        return None if self.stated is None else self.stated[query][round]

    def picture(self, name):
        """The picture called ``name`` (``PIL.Image``, RGB)."""
        if self.open is not None:
            if name not in self.places:
                raise InputError(
                    f"{name} is not in the corpus of {self.name}; choose a name from .corpus."
                )
            return self.open(name)
        path = Path(self.root, name)
        try:
            inside = path.resolve().is_relative_to(Path(self.root).resolve())
        except (ValueError, OSError) as error:  # half a character, a zero byte
            raise InputError(
                f"{name!a} can be no file's name ({first_line(error)}): mend it in the corpus list."
            ) from error
        if not inside:
            raise InputError(
                f"{name} leads out of the folder of the pictures, {self.root}: name pictures relative to it."
            )
        return open_picture(path)

    @cached_property
    def report(self):
        """How often the habits of the real files occur: {habit: number of entries}, and missing pictures by name."""
        entries = [e for d in self.dialogues for e in d.entries]
        missing = (
            []
            if self.open
            else [n for n in self.corpus if not os.path.exists(os.path.join(self.root, n))]
        )
        return {
            "entries": len(entries),
            "stray 'Answer:'": sum("Answer:" in e for e in entries),
            "newlines": sum("\n" in e for e in entries),
            "blanks at an end": sum(e != e.strip() for e in entries),
            "without '?'": sum("?" not in e for d in self.dialogues for e in d.entries[1:]),
            "empty answers": sum(
                not tidy(e.partition("?")[2])
                for d in self.dialogues
                for e in d.entries[1:]
                if "?" in e
            ),
            # most of these do hold an answer, and then a second question that nobody answers
            "ends in a question": sum(
                e.rstrip().endswith("?") for d in self.dialogues for e in d.entries[1:]
            ),
            "missing pictures": len(missing),
            "first missing": missing[:3],
            "unreadable pictures left out": len(self.skipped),
            "first left out": list(self.skipped[:3]),
        }

    def limit(self, queries, pictures=None):
        """The first dialogues only, over a corpus of at most ``pictures`` pictures, their targets among them."""
        few = self.dialogues[:queries]
        kept = sorted(
            set(self.targets[:queries])
            | set(range(pictures if pictures is not None else len(self.corpus)))
        )
        kept = [i for i in kept if i < len(self.corpus)]
        pick = lambda values: values and [values[i] for i in kept]
        return replace(
            self,
            dialogues=few,
            corpus=pick(self.corpus),
            scenes=pick(self.scenes),
            stated=self.stated and self.stated[:queries],
            prompts=self.prompts and self.prompts[:queries],
        )
