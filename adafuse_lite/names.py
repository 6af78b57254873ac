"""What a name stands for: the one table of what is bundled, and the way to what is not.

Nothing after this table asks which world it works in: "postcards" and "ViT-B-32" go through the same functions.
"""

import warnings
from contextlib import contextmanager
from pathlib import Path

import httpx
from huggingface_hub import constants

DATA = Path(__file__).parent / "data"
BUNDLED = {
    "postcards": {
        "encoder": DATA / "models" / "encoder",
        "generator": DATA / "models" / "generator",
        "head": DATA / "models" / "head",
        "banks": DATA / "banks",
    }
}


def bundled(name, part):
    """The folder of a bundled world's ``part`` ("encoder", "generator", "head", "banks"), or None for any other name."""
    return BUNDLED.get(str(name), {}).get(part)


def local_folder(name, part):
    """The folder that ``name`` means: a bundled one or one that is there; None for the name of a model elsewhere."""
    folder = bundled(name, part) or Path(name)
    return folder if folder.is_dir() else None


def looks_like_a_path(name):
    """Whether somebody meant a folder by it, one that is not there."""
    return Path(name).is_absolute() or str(name).startswith((".", "~"))


@contextmanager
def fetching(remote):
    """Within it, what was fetched before is found at once even where the hub cannot be reached, and what was not is refused
    in seconds. The libraries alone would try again and again for a minute. Local folders (``remote`` false) ask nobody, whatever
    their files say."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not remote
    if remote and not before:
        try:
            httpx.head(constants.ENDPOINT, timeout=5, follow_redirects=True)
        except (httpx.HTTPError, OSError):
            constants.HF_HUB_OFFLINE = True
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", module="huggingface_hub"
            )  # what it would say is said in the refusal
            yield
    finally:
        constants.HF_HUB_OFFLINE = before
