"""What a name stands for: the one table of bundled worlds, and the way to what is not bundled.

Nothing behind it asks which world it works in: "postcards" and "ViT-B-32" go the same way.
"""

import json
from contextlib import suppress
from pathlib import Path

from .checks import refusing
from .errors import InputError

DATA = Path(__file__).parent / "postcards" / "data"
DEFAULT = "postcards"
BUNDLED = {
    "postcards": {
        "benchmark": "adafuse_lite.postcards.splits:load_postcards",  # (style, split) -> Benchmark
        "probe": "adafuse_lite.postcards.probe:load_probe",  # (device=) -> what reads its drawings
        "encoder": DATA / "models" / "encoder",
        "generator": DATA / "models" / "generator",
        "head": DATA / "models" / "head",
        "banks": DATA / "banks",
    }
}


def bundled(name, part):
    """A bundled world's ``part``, as the table says; None for any other name."""
    return BUNDLED.get(str(name), {}).get(part)


def local_folder(name, part, remedy):
    """The folder that ``name`` means, a bundled one or one that is there; None for other names.

    ``InputError`` ending in ``remedy`` where a folder was meant that is not there.
    """
    folder = bundled(name, part) or Path(name).expanduser()
    if folder.is_dir():
        return folder
    if isinstance(name, Path) or Path(name).is_absolute() or name.startswith((".", "~")):
        raise InputError(f"{name} is no folder: {remedy}.")
    return None


def load_model(library, load, name, folder, remedy):
    """``load(local_files_only=True)``, and if that fails and ``folder`` is None, from the hub.

    So what was fetched before is found at once, and a local folder asks nobody, whatever it says.
    What the ``library`` says where it fails ends as ``InputError`` with the ``remedy``.
    """
    with refusing(Exception, f"{name}: {library} cannot load it", remedy):
        try:
            return load(local_files_only=True)
        except Exception:
            if folder is not None:
                raise
            return load(local_files_only=False)


def files_of(name, folder, patterns, local_files_only):
    """The model's folder: ``folder``, or that of the files of a repository on the hub that fit the
    patterns (list of str). Raises ``InputError`` for a model that brings Python code.

    Without a connection it fails at once, where the libraries' own downloads try for half a minute.
    """
    from huggingface_hub import snapshot_download

    if folder is None:
        options = {"allow_patterns": patterns, "local_files_only": local_files_only}
        folder = Path(snapshot_download(name, **options))
    refuse_code(folder)
    return folder


def refuse_code(folder):
    """Refuse a model whose JSON files name Python code of its own for a library to run."""

    def look(held):
        if isinstance(held.get("auto_map"), dict | list) or held.get("trust_remote_code") is True:
            remedy = "choose a model that loads without trust_remote_code"
            raise InputError(f"{path} names Python code of its own, which is not run: {remedy}.")
        return held

    for path in sorted(folder.rglob("*.json")):
        with suppress(UnicodeError, json.JSONDecodeError, RecursionError):  # told by who reads it
            json.loads(path.read_text(encoding="utf-8"), object_hook=look)
