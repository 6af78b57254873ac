"""From a dialogue to a prompt: what was said, as declarative phrases.

DAR has a language model rewrite the dialogue before a diffusion model draws it. Here a few rules do it, from the text
alone and as imperfectly as rewriting is: what they do not understand they leave out or put clumsily.
"""

import re

LEAD = re.compile(r"^(can you tell me|in this picture|from what you can see|in the picture),? ")
TAIL = re.compile(
    r" ?(that (is|are) shown|that you can see|that can be seen|shown|visible)? ?in (the|this) (picture|image|scene|photo)$"
)
HEDGE = re.compile(r"^(i think|i would say|i believe|maybe|probably),? (?!so)")
UNSURE = re.compile(r"can't tell|cannot tell|hard to tell|not sure|don't know|unsure")
YES = re.compile(r"^(yes|yeah|yep|i think so|it looks like it|it is|they are)\b[ ,.]*")
NO = re.compile(r"^(no|nope|not|none|i don't see|there (is|are) no)\b[ ,.]*")
FILLER = re.compile(r"^(it is|it seems so|i think so|it looks like it|not really|there are none|)$")
SUBJECT = re.compile(r"^(it is|it's|they are|there is|there are|the \w+ (is|are)) ")
ABOUT_THE_PHOTO = re.compile(
    r"\b(picture|photo|image|indoors|outdoors|close up|text)\b|^is this|^is it a "
)
NOTHING_NAMED = re.compile(r"\b(any )?(vehicles?|animals?|trees?|sun or moon)$")


def once(words):
    """ "green green green" -> "green": FLAN says things several times."""
    parts = words.split()
    for n in range(1, len(parts) // 2 + 1):
        if len(parts) % n == 0 and parts == parts[:n] * (len(parts) // n):
            return " ".join(parts[:n])
    return " ".join(parts)


def turn(entry):
    """An entry "question? answer" -> (question, answer), lower case and without the machine's leftovers; None if unanswered."""
    question, mark, answer = " ".join(entry.split()).lower().partition("?")
    answer = answer.removesuffix(question + mark)  # FLAN asks again behind its answer
    answer = once(re.split(r"answer:", answer)[-1]).rstrip(". ")
    question = TAIL.sub("", LEAD.sub("", TAIL.sub("", question.strip()))).strip()
    answer = HEDGE.sub("", answer.replace("answer:", "").strip())
    return (
        (question, answer) if mark and question and answer and not UNSURE.search(answer) else None
    )


def there(words):
    """ "two pine trees" -> "there are two pine trees"."""
    several = re.match(r"(any |some |two|three|four|many|several)", words) or re.match(
        r"[a-z ]*[^s]s$", words
    )
    words = re.sub(r"^any ", "", words)
    if not several and not re.match(r"(an?|the|one|no|snow|falling|grass|bare|rain) ?\b", words):
        words = ("an " if words[0] in "aeiou" else "a ") + words
    return f"there {'are' if several else 'is'} {words}"


def statement(question, answer):
    """What a question and its answer say together, or None: "is the sky blue", "no, it is grey" -> "the sky is grey"."""
    value = SUBJECT.sub("", answer)
    if m := re.match(r"(what colou?r|where) (is|are) (.+)$", question):
        return f"{m[3]} {m[2]} {value}"
    if re.match(r"(what|how) is the weather", question):
        return (
            f"the weather is {value}"
            if value in ("fair", "clear", "nice", "sunny")
            else f"it is {value}"
        )
    if m := re.match(r"what is (the \w+) (like|made of)$", question):
        return f"{m[1]} is {value}"
    if m := re.match(r"what (kind|type) of (\w+)", question):
        return (
            f"the {m[2]} are {value if value.endswith('s') else value + 's'}"
            if m[2].endswith("s")
            else there(value)
        )
    if m := re.match(r"how many (\w+)", question):
        return f"there is one {m[1].rstrip('s')}" if value == "one" else f"there are {value} {m[1]}"
    if re.match(r"(what|who|which|how|why|when)\b", question):
        if re.search(r"\b(mood|style|setting|subject)\b", question):
            return None
        rest = re.sub(r"^\w+ (is|are|does|do|did|was|were)? ?", "", question)
        return f"{rest} {value}"
    if ABOUT_THE_PHOTO.search(question):
        return None
    yes, no = YES.match(answer), NO.match(answer)
    more = (yes or no) and answer[(yes or no).end() :]
    more = None if more is None or FILLER.match(more) else SUBJECT.sub("", more)
    exists = re.match(r"(is there|are there|do you see|can you see|any)\b ?(.*)$", question)
    if exists:
        what = exists[2] if exists[1] != "any" else question
        if yes:
            return there(more or what)
        if no and NOTHING_NAMED.search(what):
            return (
                f"there are no {re.sub('^any ', '', what)}"
                if what.startswith("any ")
                else f"there is no {re.sub('^an? ', '', what)}"
            )
        return f"it is {more}" if no and re.search(r"\bit is \w+$", answer) else None
    if m := re.match(r"(is|are) it (.+)$", question):
        return f"it is {m[2]}" if yes else f"it is {more}" if no and more else None
    if m := re.match(r"(is|are) (the \w+|she|he|they|(?:her|his|their) \w+) (.+)$", question):
        return (
            f"{m[2]} {m[1]} {m[3]}"
            if yes and not more
            else f"{m[2]} {m[1]} {more}"
            if more
            else None
        )
    return None


def rewrite(entries):
    """A caption and "question? answer" strings -> one prompt: "a red car, the sky is blue, there are no trees"."""
    said = [" ".join(entries[0].split())]
    for entry in entries[1:]:
        asked = turn(entry)
        phrase = asked and statement(*asked)
        if phrase and phrase not in said:
            said.append(phrase)
    return ", ".join(said)
