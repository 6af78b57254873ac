"""What is asked of everything that comes from outside."""

from contextlib import contextmanager

from .errors import InputError


def all_finite(x):
    """Whether x holds no NaN or infinity. A sum shows either, far cheaper than each number does."""
    return bool(x.sum().isfinite()) or bool(x.isfinite().all())


def first_not_finite(x):
    """Where (along the first axes) the first vector of x that is not finite stands: list of int."""
    return (~x.isfinite().all(-1)).nonzero()[0].tolist()


@contextmanager
def refusing(errors, what, remedy):
    """Any of ``errors`` ends as ``InputError``: what is wrong, what the error says, the remedy."""
    try:
        yield
    except InputError:
        raise
    except errors as error:
        reason = " ".join(str(error).split())[:160].rstrip(".:") or type(error).__name__
        raise InputError(f"{what} ({reason}); {remedy}.") from error


def check_texts(texts):
    """Refuse texts that no model can read."""
    if isinstance(texts, str):
        raise InputError(f"{texts[:40]!r} is a single text, not a list: put it in brackets.")
    for i, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            kind = "empty" if isinstance(text, str) else f"a {type(text).__name__}"
            raise InputError(f"Text {i} is {kind}: give a string with at least one word.")
        if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
            raise InputError(f"Text {i} holds half a character (a lone surrogate): drop that one.")


def check_pictures(images):
    """Refuse anything but PIL pictures."""
    for i, image in enumerate(images):
        if not hasattr(image, "convert"):
            kind = type(image).__name__
            raise InputError(f"Picture {i} is a {kind}: open it with PIL.Image.open first.")
