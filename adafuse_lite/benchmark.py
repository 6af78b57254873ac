"""Benchmarks: a corpus of pictures and dialogues about some of them, in the layout of ChatIR (NeurIPS 2023)."""

import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

from . import dialogues, world
from .errors import InputError
from .files import first_line, open_picture, read_json
from .names import BUNDLED
from .rewrite import rewrite

ROUNDS = dialogues.ROUNDS  # a caption and ten answers
CORPUS_FILES = ("Search_Space*.json", "corpus.json")


@dataclass(frozen=True)
class Dialogue:
    """One search: ``img`` is the picture looked for, ``entries`` a caption and ten strings "question? answer"."""

    img: str
    entries: tuple


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


# --- Postcards --------------------------------------------------------------------------------------------------------
# Dialogues of a split in the style that is trained on, and in the others; pictures to search.
SPLITS = {"train": (3_000, 0, 3_000), "validation": (300, 0, 10_000), "test": (1_000, 500, 10_000)}
# Test: chosen when models, dialogues and settings were final. Two styles had been calibrated while looking at the texts of
# an earlier test set, which is not used any more.
SEEDS = {"train": 1, "validation": 2, "test": 20_261_125}


@lru_cache(maxsize=4)
def _scenes(split):
    return world.scenes(split, SPLITS[split][2], SEEDS[split])


def postcards(style, split):
    """The Postcards world. Styles other than "visdial" have a test split only, as nothing is trained on them."""
    if style not in dialogues.STYLES or split not in SPLITS:
        raise InputError(
            f"Postcards has no style {style!r} with a split {split!r}; styles are {', '.join(dialogues.STYLES)}, "
            f"splits {', '.join(SPLITS)}."
        )
    own, other, _ = SPLITS[split]
    count = own if style == "visdial" else other
    if not count:
        raise InputError(
            f"Postcards has the style {style!r} in the test split only; use split='test' or style='visdial'."
        )
    scenes = _scenes(split)
    names = [f"postcards/{split}/{i:06}.png" for i in range(len(scenes))]
    talks = [
        dialogues.dialogue(scene, style, random.Random(f"{split}/{style}/{SEEDS[split]}/{i}"))
        for i, scene in enumerate(scenes[:count])
    ]
    by_name = dict(zip(names, scenes))
    return Benchmark(
        "postcards",
        style,
        split,
        [Dialogue(n, tuple(entries)) for n, (entries, _) in zip(names, talks)],
        names,
        open=lambda name: world.draw(by_name[name]),
        scenes=scenes,
        stated=[facts for _, facts in talks],
    )


# --- folders ----------------------------------------------------------------------------------------------------------
def tidy(entry):
    """An entry without stray "Answer:", newlines and blanks at its ends."""
    return " ".join(entry.replace("Answer:", " ").split())


def folder(path, style, split, images=None, clean=False):
    """A benchmark in ChatIR's layout: ``<style>.json``, a corpus list and, perhaps, the pictures (under ``images``)."""
    path = Path(path)
    if not path.is_dir():
        raise InputError(
            f"{path} is no folder: give 'postcards' or a folder with dialogues and a corpus list."
        )
    lists = [f for pattern in CORPUS_FILES for f in sorted(path.glob(pattern))]
    if not lists:
        raise InputError(
            f"{path} holds no corpus list: put a JSON list of picture names there as corpus.json."
        )
    source = path / f"{style}.json"
    if not source.exists():
        there = sorted(f.stem for f in path.glob("*.json") if f not in lists)
        raise InputError(
            f"{path} has no dialogues of style {style!r}; there are: {', '.join(there) or 'none'}."
        )
    corpus = read_json(lists[0], "write a JSON list of the pictures' names", (list,))
    raw = read_json(source, "write a JSON list of {'img', 'dialog'}", (list,))
    if not corpus or not all(isinstance(n, str) for n in corpus):
        raise InputError(
            f"{lists[0]} is not a list of picture names: write it as a JSON list of strings."
        )
    if len(set(corpus)) < len(corpus):
        raise InputError(f"{lists[0]} names a picture twice: leave one of them out.")
    if not raw:
        raise InputError(f"{source} holds no dialogue: write a JSON list of {{'img', 'dialog'}}.")
    known, found = set(corpus), []
    for i, item in enumerate(raw):
        entries = item.get("dialog") if isinstance(item, dict) else None
        if (
            not isinstance(entries, list)
            or len(entries) != ROUNDS
            or not isinstance(item.get("img"), str)
        ):
            raise InputError(
                f"{source}, dialogue {i}: needs 'img' and a 'dialog' of {ROUNDS} strings; mend or drop it."
            )
        if wrong := [
            r
            for r, e in enumerate(entries)
            if not isinstance(e, str) or not (tidy(e) if clean else e.strip())
        ]:
            raise InputError(
                f"{source}, dialogue {i}, entry {wrong[0]}: is empty or not a text; mend it."
            )
        if item["img"] not in known:
            raise InputError(
                f"{source}, dialogue {i}: its picture {item['img']} is not in {lists[0].name}; add it there."
            )
        found.append(Dialogue(item["img"], tuple(tidy(e) if clean else e for e in entries)))
    return Benchmark(path.name, style, split, found, corpus, root=Path(images or path))


def load_benchmark(source, style="visdial", split="test", images=None, prompts=None, clean=False):
    """A benchmark: ``source`` is "postcards", a folder in ChatIR's layout with ``style`` the stem of its dialogue file, or a
    source of your own (see ``sources``): a dataset saved by ``datasets``, or VisDial's training file.

    images: folder of the pictures, if not ``source``; texts load without them. prompts: ready-made ones, a list (or the
    JSON file of one) with a list of a prompt a round for each dialogue, or a mapping from its img to that. clean: repair
    stray "Answer:", blanks and newlines.
    Whatever is missing or malformed ends in InputError.
    """
    from .sources import saved_dataset, visdial

    if source in BUNDLED:
        made = postcards(style, split)
    elif Path(source).suffix == ".json":
        made = visdial(source, images)
    elif any((Path(source) / name).exists() for name in ("state.json", "dataset_dict.json")):
        made = saved_dataset(source, split)
    else:
        made = folder(source, style, split, images, clean)
    if prompts is None:
        return made
    name = prompts if isinstance(prompts, (str, Path)) else "prompts"
    prompts = (
        read_json(prompts, "write a list with a list of prompts for each dialogue", (list, dict))
        if name == prompts
        else prompts
    )
    if isinstance(prompts, dict):
        prompts = [prompts.get(d.img) for d in made.dialogues]
    fits = isinstance(prompts, list) and len(prompts) == len(made.dialogues)
    if not fits or not all(
        isinstance(p, list) and len(p) == made.rounds and all(isinstance(x, str) for x in p)
        for p in prompts
    ):
        raise InputError(
            f"{name}: needs {made.rounds} prompts for each of the {len(made.dialogues)} dialogues, as a list of lists."
        )
    return replace(made, prompts=prompts)


def write_benchmark(benchmark, out):
    """Write dialogues, corpus list and pictures to the folder ``out``, from where ``load_benchmark`` reads them."""
    out = Path(out)
    for name in benchmark.corpus:
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        benchmark.picture(name).save(path)
    listed = [{"img": d.img, "dialog": list(d.entries)} for d in benchmark.dialogues]
    (out / f"{benchmark.style}.json").write_text(
        json.dumps(listed, ensure_ascii=False), encoding="utf-8"
    )
    (out / "corpus.json").write_text(json.dumps(benchmark.corpus), encoding="utf-8")
