"""Benchmarks from what there is: ChatIR's files, photographs, captions, a saved dataset, VisDial.

``load_benchmark`` is the door to all of them; nothing on the method's path imports it back.
"""

import json
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name

from PIL import Image, UnidentifiedImageError
from tqdm.auto import tqdm

from .benchmark import ROUNDS, Benchmark, Dialogue, tidy
from .checks import first_line
from .errors import InputError
from .files import read_json
from .names import DEFAULT, bundled


CORPUS_FILES = ("Search_Space*.json", "corpus.json")


PICTURES = (".jpg", ".jpeg", ".png", ".webp")


OTHERS = (
    ".heic",
    ".heif",
    ".avif",
    ".tif",
    ".tiff",
    ".gif",
    ".bmp",
)  # pictures that are not read: convert them first


def load_benchmark(source, style="visdial", split="test", images=None, prompts=None, clean=False):
    """A benchmark: ``source`` is "postcards", a folder in ChatIR's layout with ``style`` the stem of its dialogue file, or a
    source of your own (see ``sources``): a dataset saved by ``datasets``, or VisDial's training file.

    images: folder of the pictures, if not ``source``; texts load without them. prompts: ready-made ones, a list (or the
    JSON file of one) with a list of a prompt a round for each dialogue, or a mapping from its img to that. clean: repair
    stray "Answer:", blanks and newlines.
    Whatever is missing or malformed ends in InputError.
    """
    if world := bundled(source, "benchmark"):
        made = resolve_name(world)(style, split)
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


def folder(path, style, split, images=None, clean=False):
    """A benchmark in ChatIR's layout: ``<style>.json``, a corpus list and, perhaps, the pictures (under ``images``)."""
    path = Path(path)
    if not path.is_dir():
        raise InputError(
            f"{path} is no folder: give {DEFAULT!r} or a folder with dialogues and a corpus list."
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


def photos(folder, progress=True):
    """A benchmark of the photographs in a folder and below it, without dialogues: something to search.

    Files that PIL cannot read to the end, and pictures of other kinds (HEIC, TIFF, ...), are left out and listed in ``.skipped``.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: give the folder of your photographs.")
    names, skipped = [], []
    files = sorted(
        p for p in folder.rglob("*") if p.suffix.lower() in PICTURES + OTHERS and p.is_file()
    )
    for path in tqdm(files, desc="look at photographs", unit="file", disable=not progress):
        name = path.relative_to(folder).as_posix()
        try:
            if path.suffix.lower() in OTHERS:
                raise ValueError("convert it to one of the kinds that are read")
            with Image.open(path) as image:
                image.draft(
                    "RGB", (256, 256)
                )  # a JPEG is decoded small, which is fast, yet to its end
                image.load()
            names.append(name)
        except (
            OSError,
            ValueError,
            SyntaxError,
            UnidentifiedImageError,
            Image.DecompressionBombError,
        ):
            skipped.append(name)
    if not names:
        raise InputError(
            f"{folder} holds no picture that can be read ({', '.join(PICTURES)}); {len(skipped)} could not be."
        )
    return Benchmark(folder.name, "photos", "all", [], names, root=folder, skipped=tuple(skipped))


def pairs(captions, images, progress=True):
    """A benchmark of one round from captions: ``{picture's name in the folder images: its caption}``, to train a head on.

    The corpus is all photographs of the folder, captions of unknown pictures end in InputError.
    """
    found = photos(images, progress)
    known = set(found.corpus)
    for name, caption in captions.items():
        if name not in known:
            raise InputError(
                f"{name} has a caption but is no readable picture in {images}: leave it out or add the picture."
            )
        if not isinstance(caption, str) or not caption.strip():
            raise InputError(
                f"The caption of {name} is empty or no text: write one or leave it out."
            )
    return Benchmark(
        found.name,
        "captions",
        "all",
        [Dialogue(n, (c,)) for n, c in captions.items()],
        found.corpus,
        root=found.root,
        rounds=1,
        skipped=found.skipped,
    )


def visdial(path, images=None):
    """VisDial's own file (``visdial_1.0_train.json``): data.dialogs refer to data.questions and data.answers by number.

    ``images``: the folder of the COCO pictures, searched for names that end in the 12 digits of an image; texts load without.
    """
    raw, entries = read_json(path, "give visdial_1.0_train.json"), []
    try:
        data = raw["data"]
        questions, answers, talks = data["questions"], data["answers"], data["dialogs"]
        for talk in talks:
            numbers = [
                talk["image_id"],
                *(t[part] for t in talk["dialog"] for part in ("question", "answer")),
            ]
            if any(type(n) is not int or n < 0 for n in numbers):
                raise ValueError("a number is none or below 0")
            turns = [(questions[t["question"]], answers[t["answer"]]) for t in talk["dialog"]]
            if not all(
                isinstance(x, str) for x in (talk["caption"], *(x for turn in turns for x in turn))
            ):
                raise TypeError("a text is none")
            entries.append((talk["image_id"], (talk["caption"], *(f"{q}? {a}" for q, a in turns))))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}, dialogue {len(entries)}: does not have VisDial's form ({type(error).__name__}: {error}); give visdial_1.0_train.json, "
            "or a folder in ChatIR's layout."
        ) from error
    rounds = max((len(e) for _, e in entries), default=0)
    if rounds < 2:
        raise InputError(f"{path}: holds no dialogue with an answer; fetch it again.")
    if short := [i for i, (_, e) in enumerate(entries) if len(e) < rounds]:
        raise InputError(
            f"{path}, dialogue {short[0]}: has fewer answers than others, as {len(short)} dialogues have; leave them out."
        )
    by_number = {}
    if images is not None:
        if not Path(images).is_dir():
            raise InputError(f"{images} is no folder: give the folder of the COCO pictures.")
        by_number = {
            p.stem[-12:]: p.relative_to(images).as_posix() for p in Path(images).rglob("*.jpg")
        }
    named = [
        (by_number.get(f"{image:012}", f"COCO_train2014_{image:012}.jpg"), e)
        for image, e in entries
    ]
    corpus = list(dict.fromkeys(n for n, _ in named))
    return Benchmark(
        Path(path).stem,
        "visdial",
        "train",
        [Dialogue(n, e) for n, e in named],
        corpus,
        root=Path(images or Path(path).parent),
        rounds=rounds,
    )


def saved_dataset(path, split="test"):
    """A dataset that ``datasets`` saved (``save_to_disk``), with the columns "image" and "dialog" (a list of texts; empty where a
    picture is only there to be searched) and, if you like, "name". Pictures are decoded when they are asked for."""
    import datasets

    try:
        data = datasets.load_from_disk(str(path))
    except Exception as error:
        raise InputError(
            f"{path} is no dataset that datasets can load ({str(error).splitlines()[0]}): save it again."
        ) from error
    if isinstance(data, datasets.DatasetDict):
        if split not in data:
            raise InputError(f"{path} has no split {split!r}; there are: {', '.join(data)}.")
        data = data[split]
    if lacking := {"image", "dialog"} - set(data.column_names):
        raise InputError(
            f"{path} lacks the column {' and '.join(sorted(lacking))}; it has {', '.join(data.column_names)}."
        )
    names = (
        data["name"][:] if "name" in data.column_names else [f"{i:06}" for i in range(len(data))]
    )
    rows, talks = {name: i for i, name in enumerate(names)}, data["dialog"][:]
    if len(rows) < len(names):
        raise InputError(f"{path} names a picture twice: leave one of them out.")
    talks = [[] if talk is None else talk for talk in talks]
    rounds = max(map(len, talks), default=0)
    if not rounds:
        raise InputError(
            f"{path} holds no dialogue in its column dialog: give at least one row a list of texts."
        )
    for i, talk in enumerate(talks):
        if (
            not isinstance(talk, list)
            or len(talk) not in (0, rounds)
            or not all(isinstance(e, str) and e.strip() for e in talk)
        ):
            raise InputError(
                f"{path}, row {i}: its dialogue needs {rounds} texts, as the longest has, or none; mend it."
            )

    def picture(name):
        try:
            return data[rows[name]]["image"].convert("RGB")
        except (
            AttributeError,
            OSError,
            ValueError,
            SyntaxError,
            Image.DecompressionBombError,
        ) as error:
            raise InputError(
                f"{path}, row {rows[name]}: holds no picture that can be read ({first_line(error)}); mend it or leave it out."
            ) from error

    return Benchmark(
        Path(path).name,
        "dataset",
        split,
        [Dialogue(n, tuple(t)) for n, t in zip(names, talks) if t],
        list(names),
        open=picture,
        version=data._fingerprint,
        rounds=rounds,
    )


def read_captions(path):
    """Captions from a JSON file ``{picture's name: caption}``."""
    return read_json(path, "write it as {name: caption}")


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
