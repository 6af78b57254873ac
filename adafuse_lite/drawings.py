"""Drawings that exist already, in the place of a generator: DAR's, ADaFuSE's, or one's own."""

import hashlib
from pathlib import Path

from PIL import Image

from .errors import InputError
from .files import open_picture


class Drawings:
    """Pictures that were drawn earlier, in the place of a generator.

    pictures: a mapping from (dialogue's number, round) to a path or ``PIL.Image``, or a folder in
    DAR's layout (``3_10.jpg``: dialogue 3, round 10) or in that of ADaFuSE's training pictures
    (``round10/train-STEM_10.jpg``, with the stem of the target's name). A picture that is missing
    or does not decode ends in ``InputError``.
    """

    steps, guidance, batch, withheld = 0, 0.0, 64, 0

    def __init__(self, pictures):
        if not isinstance(pictures, dict) and not Path(pictures).is_dir():
            raise InputError(f"{pictures} is no folder: give that of the drawings, or a mapping.")
        self.pictures, self._used, self.hash = pictures, {}, None

    def jobs(self, benchmark, rounds):
        """The pictures' names, for each dialogue one a round; ``hash`` tells what they hold."""
        stems = [Path(dialogue.img).stem for dialogue in benchmark.dialogues]
        names = [[self._find(q, r, s) for r in range(rounds)] for q, s in enumerate(stems)]
        digest = hashlib.sha256()
        for name in sorted({name for row in names for name in row}):
            picture = self._used[name]
            is_open = isinstance(picture, Image.Image)
            content = picture.tobytes() if is_open else Path(picture).read_bytes()
            digest.update(name.encode() + content)
        self.hash = digest.hexdigest()[:16]
        return names

    def _find(self, query, round, stem):
        name = f"{query}_{round}"
        names = (f"{name}.jpg", f"{name}.png", f"round{round}/train-{stem}_{round}.jpg")
        if isinstance(self.pictures, dict):
            there = {name: self.pictures.get((query, round))}
        else:
            there = {n: path for n in names if (path := Path(self.pictures, n)).exists()}
        for name, picture in there.items():
            if picture is not None:
                self._used[name] = picture
                return name
        add = f"add it to the mapping, under ({query}, {round}), or the folder, as {names[0]}"
        raise InputError(f"There is no drawing for dialogue {query}, round {round}: {add}.")

    def cut(self, names):
        """Nobody knows any more whether a prompt was cut: False for all."""
        return [False] * len(names)

    def __call__(self, names, seeds=None):
        pictures = [self._used[name] for name in names]
        return [p if isinstance(p, Image.Image) else open_picture(p) for p in pictures]
