"""The one error that users meet."""


class InputError(ValueError):
    """Something given from outside cannot be used; one sentence says which, and what to do.

    Names in it come from outside, too: line breaks in them become blanks, and of a very long
    message the middle is left out.
    """

    def __init__(self, message):
        line = " ".join(message.splitlines())
        super().__init__(line if len(line) < 900 else f"{line[:500]} … {line[-300:]}")
