"""Benchmarks from what you have: photographs, captions for them, a saved dataset, VisDial's training file."""

from pathlib import Path

from PIL import Image, UnidentifiedImageError
from tqdm.auto import tqdm

from .benchmark import Benchmark, Dialogue
from .errors import InputError
from .files import first_line, read_json

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
