"""The one error that users meet."""


class InputError(ValueError):
    """Something given from outside cannot be used; the message is one sentence: which file or entry, and what to do."""
