"""Benchmarks from what there is: ChatIR's files, photographs, captions, a saved dataset, VisDial.

``load_benchmark`` is the door to all of them; nothing on the method's path imports it back.
"""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name

from PIL import Image
from tqdm.auto import tqdm

from .benchmark import ROUNDS, Benchmark, Dialogue, tidy
from .checks import refusing
from .errors import InputError
from .files import UNREADABLE, make_folder, read_json
from .names import DEFAULT, bundled

CORPUS_FILES = ("Search_Space*.json", "corpus.json")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
OTHERS = (".heic", ".heif", ".avif", ".tif", ".tiff", ".gif", ".bmp")  # convert them first


def load_benchmark(source, style="visdial", split="test", images=None, prompts=None, clean=False):
    """A benchmark: ``source`` is a bundled world's name, a folder in ChatIR's layout with ``style``
    the stem of its dialogue file, a dataset saved by ``datasets``, or VisDial's training file.

    images: folder of the pictures, if not ``source``; texts load without them. prompts: ready-made
    ones, a list (or the JSON file of one) with a list of a prompt a round for each dialogue, or a
    mapping from its img to that. clean: repair stray "Answer:", blanks and newlines. Whatever is
    missing or malformed ends in ``InputError``.
    """
    if world := bundled(source, "benchmark"):
        benchmark = resolve_name(world)(style, split)
    elif Path(source).suffix == ".json":
        benchmark = visdial(source, images)
    elif any(Path(source, name).exists() for name in ("state.json", "dataset_dict.json")):
        benchmark = saved_dataset(source, split)
    else:
        benchmark = folder(source, style, split, images, clean)
    return benchmark if prompts is None else replace(benchmark, prompts=_fit(prompts, benchmark))


def _fit(prompts, benchmark):
    """Ready-made prompts as a list with a list of a prompt a round for each dialogue."""
    count, rounds = len(benchmark.dialogues), benchmark.rounds
    name = prompts if isinstance(prompts, str | Path) else "prompts"
    if name is prompts:
        prompts = read_json(name, "write a list of prompts for each dialogue", (list, dict))
    if isinstance(prompts, dict):
        prompts = [prompts.get(dialogue.img) for dialogue in benchmark.dialogues]
    is_row = lambda row: isinstance(row, list) and len(row) == rounds and _are_texts(row)
    fits = isinstance(prompts, list) and len(prompts) == count and all(map(is_row, prompts))
    _ensure(fits, f"{name}: needs {rounds} prompts for each of the {count} dialogues, in lists.")
    return prompts


def _ensure(fits, message):
    if not fits:
        raise InputError(message)


def _are_texts(values):
    return all(isinstance(value, str) for value in values)


def _is_written(value):
    return isinstance(value, str) and bool(value.strip())


def folder(path, style, split, images=None, clean=False):
    """ChatIR's layout: ``<style>.json``, a corpus list and, perhaps, pictures (in ``images``)."""
    path = Path(path)
    _ensure(path.is_dir(), f"{path} is no folder: give {DEFAULT!r} or a folder with dialogues.")
    lists = [file for pattern in CORPUS_FILES for file in sorted(path.glob(pattern))]
    _ensure(lists, f"{path} holds no corpus list: put a JSON list of picture names in corpus.json.")
    source = path / f"{style}.json"
    styles = ", ".join(sorted(f.stem for f in path.glob("*.json") if f not in lists)) or "none"
    _ensure(source.exists(), f"{path} has no dialogues of style {style!r}; there are: {styles}.")
    corpus = read_json(lists[0], "write a JSON list of the pictures' names", (list,))
    is_list = corpus and _are_texts(corpus)
    _ensure(is_list, f"{lists[0]} is not a list of picture names: write a JSON list of strings.")
    known = set(corpus)
    _ensure(len(known) == len(corpus), f"{lists[0]} names a picture twice: leave one of them out.")
    items = read_json(source, "write a JSON list of {'img', 'dialog'}", (list,))
    _ensure(items, f"{source} holds no dialogue: write a JSON list of {{'img', 'dialog'}}.")
    mend = tidy if clean else str
    where = [f"{source}, dialogue {i}" for i in range(len(items))]
    dialogues = [_dialogue(item, place, mend, known) for item, place in zip(items, where)]
    return Benchmark(path.name, style, split, dialogues, corpus, root=Path(images or path))


def _dialogue(item, where, mend, known):
    """A ``Dialogue`` from {'img', 'dialog'}, its entries mended; ``known`` are the pictures."""
    entries = item.get("dialog") if isinstance(item, dict) else None
    fits = isinstance(entries, list) and len(entries) == ROUNDS and _are_texts([item.get("img")])
    _ensure(fits, f"{where}: needs 'img' and a 'dialog' of {ROUNDS} strings; mend or drop it.")
    for r, entry in enumerate(entries):
        fits = isinstance(entry, str) and _is_written(mend(entry))
        _ensure(fits, f"{where}, entry {r}: is empty or not a text; mend it.")
    _ensure(item["img"] in known, f"{where}: {item['img']} is not in the corpus list; add it.")
    return Dialogue(item["img"], tuple(map(mend, entries)))


def write_benchmark(benchmark, out):
    """Write dialogues, corpus list and pictures to the folder ``out``, for ``load_benchmark``."""
    out = Path(out)
    for name in benchmark.corpus:
        make_folder((out / name).parent)
        benchmark.picture(name).save(out / name)
    items = [{"img": d.img, "dialog": list(d.entries)} for d in benchmark.dialogues]
    texts = json.dumps(items, ensure_ascii=False)
    (out / f"{benchmark.style}.json").write_text(texts, encoding="utf-8")
    (out / "corpus.json").write_text(json.dumps(benchmark.corpus), encoding="utf-8")


def photos(folder, progress=True):
    """The photographs in a folder and below it, without dialogues: something to search.

    Files that PIL cannot read to the end, and of other kinds (HEIC, TIFF, ...), are ``.skipped``.
    """
    folder = Path(folder).expanduser()
    _ensure(folder.is_dir(), f"{folder} is no folder: give the folder of your photographs.")
    suffixes = SUFFIXES + OTHERS
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
    names, skipped = [], []
    for path in tqdm(files, desc="look at photographs", unit="file", disable=not progress):
        is_read = path.suffix.lower() in SUFFIXES and _is_whole(path)
        (names if is_read else skipped).append(path.relative_to(folder).as_posix())
    _ensure(names, f"{folder} holds no picture ({', '.join(SUFFIXES)}) that can be read.")
    return Benchmark(folder.name, "photos", "all", [], names, root=folder, skipped=tuple(skipped))


def _is_whole(path):
    with suppress(*UNREADABLE), Image.open(path) as image:
        image.draft("RGB", (256, 256))  # a JPEG is decoded small: fast, yet to its end
        image.load()
        return True
    return False


def pairs(captions, images, progress=True):
    """All photographs of the folder ``images``, with captions ``{picture's name: its caption}``."""
    album = photos(images, progress)
    known = set(album.corpus)
    for name, caption in captions.items():
        _ensure(name in known, f"{name} is no readable picture in {images}: add it, or drop it.")
        _ensure(_is_written(caption), f"The caption of {name} is empty or no text: mend it.")
    dialogues = [Dialogue(name, (caption,)) for name, caption in captions.items()]
    return replace(album, style="captions", dialogues=dialogues, rounds=1)


def read_captions(path):
    """Captions from a JSON file ``{picture's name: caption}``."""
    return read_json(path, "write it as {name: caption}")


def visdial(path, images=None):
    """VisDial's own file. ``images``: the folder of the COCO pictures, searched for names that end
    in the 12 digits of an image; texts load without."""
    data, talks = read_json(path, "give visdial_1.0_train.json").get("data"), []
    try:
        for talk in data["dialogs"]:
            talks.append(_visdial_dialogue(talk, data["questions"], data["answers"]))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        fault = f"does not have VisDial's form ({type(error).__name__}: {error})"
        remedy = "give visdial_1.0_train.json, or a folder in ChatIR's layout"
        raise InputError(f"{path}, dialogue {len(talks)}: {fault}; {remedy}.") from error
    rounds = max((len(entries) for _, entries in talks), default=0)
    _ensure(rounds > 1, f"{path}: holds no dialogue with an answer; fetch it again.")
    for i, (_, entries) in enumerate(talks):
        _ensure(len(entries) == rounds, f"{path}, dialogue {i}: has fewer answers than others.")
    is_folder = images is None or Path(images).is_dir()
    _ensure(is_folder, f"{images} is no folder: give the folder of the COCO pictures.")
    files = Path(images).rglob("*.jpg") if images else []
    by_number = {file.stem[-12:]: file.relative_to(images).as_posix() for file in files}
    name_of = lambda number: by_number.get(f"{number:012}", f"COCO_train2014_{number:012}.jpg")
    dialogues = [Dialogue(name_of(number), entries) for number, entries in talks]
    corpus = list(dict.fromkeys(dialogue.img for dialogue in dialogues))
    options = {"root": Path(images or Path(path).parent), "rounds": rounds}
    return Benchmark(Path(path).stem, "visdial", "train", dialogues, corpus, **options)


def _visdial_dialogue(talk, questions, answers):
    """The image's number and the entries: turns refer to questions and answers by number."""
    turns = [(turn["question"], turn["answer"]) for turn in talk["dialog"]]
    numbers = [talk["image_id"], *(number for turn in turns for number in turn)]
    if any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError("a number is none or below 0")
    texts = [(questions[question], answers[answer]) for question, answer in turns]
    if not _are_texts([talk["caption"], *(text for turn in texts for text in turn)]):
        raise TypeError("a text is none")
    return talk["image_id"], (talk["caption"], *(f"{asked}? {said}" for asked, said in texts))


def saved_dataset(path, split="test"):
    """A dataset that ``datasets`` saved, with columns "image", "dialog" (a list of texts; empty
    where a picture is only there to be searched) and perhaps "name"."""
    import datasets

    with refusing(Exception, f"{path} is no dataset that datasets can load", "save it again"):
        data = datasets.load_from_disk(str(path))
    if isinstance(data, datasets.DatasetDict):
        _ensure(split in data, f"{path} has no split {split!r}; there are: {', '.join(data)}.")
        data = data[split]
    columns = data.column_names
    lacking = " and ".join(sorted({"image", "dialog"} - set(columns)))
    _ensure(not lacking, f"{path} lacks the column {lacking}; it has {', '.join(columns)}.")
    names = data["name"][:] if "name" in columns else [f"{i:06}" for i in range(len(data))]
    rows = {name: i for i, name in enumerate(names)}
    _ensure(len(rows) == len(names), f"{path} names a picture twice: leave one of them out.")
    talks = [[] if talk is None else talk for talk in data["dialog"][:]]
    rounds = max(map(len, talks), default=0)
    _ensure(rounds, f"{path} holds no dialogue in its column dialog: give a row a list of texts.")
    for i, talk in enumerate(talks):
        fits = isinstance(talk, list) and len(talk) in (0, rounds) and all(map(_is_written, talk))
        _ensure(fits, f"{path}, row {i}: its dialogue needs {rounds} texts, or none; mend it.")

    def picture(name):
        fault = f"{path}, row {rows[name]}: holds no picture that can be read"
        with refusing(UNREADABLE, fault, "mend or drop it"):
            return data[rows[name]]["image"].convert("RGB")

    dialogues = [Dialogue(name, tuple(talk)) for name, talk in zip(names, talks) if talk]
    options = {"open": picture, "version": data._fingerprint, "rounds": rounds}
    return Benchmark(Path(path).name, "dataset", split, dialogues, list(names), **options)
