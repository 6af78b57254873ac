"""From a dialogue to a prompt: what was said, as declarative phrases.

DAR has a language model rewrite the dialogue before a diffusion model draws it. Here a few rules do
it, from the text alone, imperfectly: what they do not understand they leave out or put clumsily.
"""

import re

LEAD = re.compile(r"^(can you tell me|in this picture|from what you can see|in the picture),? ")
TAIL = re.compile(
    r" ?(that (is|are) shown|that you can see|that can be seen|shown|visible)? ?"
    r"in (the|this) (picture|image|scene|photo)$"
)
HEDGE = re.compile(r"^(i think|i would say|i believe|maybe|probably),? (?!so)")
UNSURE = re.compile(r"can't tell|cannot tell|hard to tell|not sure|don't know|unsure")
YES = re.compile(r"^(yes|yeah|yep|i think so|it looks like it|it is|they are)\b[ ,.]*")
NO = re.compile(r"^(no|nope|not|none|i don't see|there (is|are) no)\b[ ,.]*")
FILLER = re.compile(r"^(it is|it seems so|i think so|it looks like it|not really|there are none|)$")
SUBJECT = re.compile(r"^(it is|it's|they are|there is|there are|the \w+ (is|are)) ")
OF_PHOTO = re.compile(r"\b(picture|photo|image|indoors|outdoors|close up|text)\b|^is (this|it a )")
NOTHING_NAMED = re.compile(r"\b(any )?(vehicles?|animals?|trees?|sun or moon)$")


def once(words):
    """ "green green green" -> "green": FLAN says things several times."""
    return re.fullmatch(r"(.*?)( \1)*", " ".join(words.split()))[1]


def turn(entry):
    """An entry "question? answer" -> (question, answer) in lower case; None if it is unanswered."""
    question, mark, answer = " ".join(entry.split()).lower().partition("?")
    answer = answer.removesuffix(question + mark)  # FLAN asks again behind its answer
    answer = HEDGE.sub("", once(answer.split("answer:")[-1]).rstrip(". "))
    question = TAIL.sub("", LEAD.sub("", TAIL.sub("", question.strip()))).strip()
    answered = mark and question and answer and not UNSURE.search(answer)
    return (question, answer) if answered else None


def there(words):
    """ "two pine trees" -> "there are two pine trees"."""
    counted = re.match(r"any |some |two|three|four|many|several", words)
    several = counted or re.match(r"[a-z ]*[^s]s$", words)
    words = words.removeprefix("any ")
    if not several and not re.match(r"(an?|the|one|no|snow|falling|grass|bare|rain) ?\b", words):
        words = ("an " if words[0] in "aeiou" else "a ") + words
    return f"there {'are' if several else 'is'} {words}"


def declare(question, answer):
    """What both say together, or None: "is the sky blue", "no, it is grey" -> "the sky is grey"."""
    value = SUBJECT.sub("", answer)
    if m := re.match(r"(what colou?r|where) (is|are) (.+)$", question):
        return f"{m[3]} {m[2]} {value}"
    if re.match(r"(what|how) is the weather", question):
        fine = value in ("fair", "clear", "nice", "sunny")
        return f"the weather is {value}" if fine else f"it is {value}"
    if m := re.match(r"what is (the \w+) (like|made of)$", question):
        return f"{m[1]} is {value}"
    if m := re.match(r"what (?:kind|type) of (\w+)", question):
        return f"the {m[1]} are {value.removesuffix('s')}s" if m[1].endswith("s") else there(value)
    if m := re.match(r"how many (\w+)", question):
        return f"there is one {m[1].rstrip('s')}" if value == "one" else f"there are {value} {m[1]}"
    if re.match(r"(what|who|which|how|why|when)\b", question):
        if re.search(r"\b(mood|style|setting|subject)\b", question):
            return None
        return re.sub(r"^\w+ (is|are|does|do|did|was|were)? ?", "", question) + f" {value}"
    return None if OF_PHOTO.search(question) else decide(question, answer)


def decide(question, answer):
    """The same for a question that is answered by yes or no, perhaps with more words."""
    yes, no = YES.match(answer), NO.match(answer)
    rest = answer[(yes or no).end() :] if yes or no else ""
    more = None if FILLER.match(rest) else SUBJECT.sub("", rest)
    if m := re.match(r"(is there|are there|do you see|can you see|any)\b ?(.*)$", question):
        thing = question if m[1] == "any" else m[2]
        if yes:
            return there(more or thing) if more or thing else None
        if no and NOTHING_NAMED.search(thing):
            several = thing.startswith("any ")
            return f"there {'are' if several else 'is'} no {re.sub('^(any|an?) ', '', thing)}"
        return f"it is {more}" if no and re.search(r"\bit is \w+$", answer) else None
    if m := re.match(r"(is|are) it (.+)$", question):
        return f"it is {m[2]}" if yes else f"it is {more}" if no and more else None
    if m := re.match(r"(is|are) (the \w+|she|he|they|(?:her|his|their) \w+) (.+)$", question):
        return f"{m[2]} {m[1]} {more or m[3]}" if yes or more else None
    return None


def rewrite(entries, statements=False):
    """A caption and "question? answer" strings -> one prompt: "a red car, the sky is blue".

    statements: entries may say what nobody asked for, and the first may be an answered question.
    """
    phrases = []
    for number, entry in enumerate(entries):
        asked = turn(entry) if number or statements else None
        told = (number == 0 and asked is None) or (statements and "?" not in entry)
        phrase = " ".join(entry.split()) if told else asked and declare(*asked)
        if phrase not in (None, *phrases):
            phrases.append(phrase)
    return ", ".join(phrases)
