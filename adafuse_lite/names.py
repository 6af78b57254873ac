"""What a name stands for: the one table of bundled worlds, and the way to what is not bundled.

Nothing behind it asks which world it works in: "postcards" and "ViT-B-32" go the same way.
"""

from pathlib import Path

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


def local_folder(name, part):
    """The folder that ``name`` means, a bundled one or one that is there; None for other names."""
    folder = bundled(name, part) or Path(name)
    return folder if folder.is_dir() else None


def looks_like_a_path(name):
    """Whether somebody meant a folder by it, one that is not there."""
    return Path(name).is_absolute() or str(name).startswith((".", "~"))


def local_first(load, folder=None):
    """``load(local_files_only=True)``, and if that fails and ``folder`` is None, from the hub.

    So what was fetched before is found at once, and a local folder asks nobody, whatever it says.
    """
    try:
        return load(local_files_only=True)
    except Exception:
        if folder is not None:
            raise
        return load(local_files_only=False)
