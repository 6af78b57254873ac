"""Captions of the second edition: one sentence in which things and their details are merged.

A language model that rewrites a dialogue writes "a red barn with a green roof on the left and two
pine trees under a grey sky with no animals", not a list of statements. ``merged`` writes so from
any facts {attribute: value}. ``short_caption`` is what people put beside pictures (the encoder's
contrast reads only that), ``dense_caption`` says much of a scene in one of several styles (for
captioning and for the generator). Each returns the text and the facts it states.
"""

import random
import re

from .. import captions, rewrite, world
from ..captions import WHERE, article

SHORT = 20  # tokens (words + start + end) of the captions that the contrast reads, at most
LONG = 62  # and of dense captions: with the pieces of rare words the models' 77 hold every one

HEDGES = ("possibly", "likely", "probably", "perhaps", "maybe")
ADJECTIVES = {"fair": "clear", "cloudy": "cloudy", "rainy": "rainy", "snowy": "snowy"}
AIR = {
    "fair": ("in fair weather", "in clear weather"),
    "cloudy": ("with clouds", "with white clouds"),
    "rainy": ("in the rain", "with rain", "with falling rain"),
    "snowy": ("with falling snow", "with snowfall"),
}
GROUND = {
    "grass": ("on the grass", "on green grass", "on grass", "in a grass field"),
    "sand": ("on the sand", "on sand", "on sand ground"),
    "snow": ("on the snow", "in the snow", "on ground covered in snow"),
    "earth": ("on bare earth", "on brown earth", "on the bare earth"),
}
# What is said of a thing that is not there, and of one of which only details are known.
NOTHING = {
    "light": ("sun or moon",),
    "tree": ("trees",),
    "vehicle": ("vehicles", "vehicle"),
    "animal": ("animals", "animal"),
}
FRAMES = ("", "", "", "", "a picture of ", "a scene with ", "a view of ", "an image of ")


def token_count(text):
    """Tokens of a text as CLIP would count them: its words and commas, a start and an end."""
    return len(text.replace(",", " ,").split()) + 2


# --- noun phrases -------------------------------------------------------------------------------
def _building(facts, rng):
    words = facts.get("building", "building")
    if "wall" in facts:
        words = f"{facts['wall']} {words}"
    words = article(words)
    if "roof" in facts:
        words += rng.choice((" with ", " with ", " that has ")) + f"{article(facts['roof'])} roof"
    return words + _place(facts, "building_place", rng, ("", "", "", "standing "))


def _tree(facts, rng):
    kind, number = facts.get("tree"), facts.get("trees")
    if number == "one":
        words = article(f"{kind} tree") if kind else "a tree"
        words = words if rng.random() < 0.8 else "one" + words[words.index(" ") :]
    else:
        words = rng.choice((f"{kind} trees", f"{kind} trees", f"{kind}s")) if kind else "trees"
        words = f"{number} {words}" if number else words
    return words + _place(facts, "tree_place", rng)


def _vehicle(facts, rng):
    words = facts.get("vehicle", "vehicle")
    words = article(f"{facts['vehicle_color']} {words}" if "vehicle_color" in facts else words)
    return words + _place(facts, "vehicle_place", rng, ("", "", "parked "))


def _animal(facts, rng):
    words = facts.get("animal", "animal")
    words = article(f"{facts['animal_color']} {words}" if "animal_color" in facts else words)
    return words + _place(facts, "animal_place", rng, ("", "", "standing "))


def _light(facts, rng):
    kind = facts.get("light", "light")
    return rng.choice((f"the {kind}", article(kind))) + _place(facts, "light_place", rng)


PHRASES = {"building": _building, "tree": _tree, "vehicle": _vehicle, "animal": _animal}


def _place(facts, name, rng, verbs=("",)):
    return f" {rng.choice(verbs)}{rng.choice(WHERE[facts[name]])}" if name in facts else ""


def _sky(facts, rng, shines=False):
    """Sky, weather and light (``shines``: there is one, of which nothing else is known): "under a
    cloudy grey sky with the moon on the left"; "" if none is said."""
    sky, weather, parts = facts.get("sky"), facts.get("weather"), []
    if sky and weather:
        form = rng.randrange(3)
        if form == 0 or weather == "fair":
            parts.append(f"under {article(ADJECTIVES[weather])} {sky} sky")
        elif form == 1:
            parts.append(f"under {article(sky)} sky {rng.choice(AIR[weather])}")
        else:
            parts.append(f"{rng.choice(AIR[weather])} under {article(sky)} sky")
    elif sky:
        parts.append(f"under {article(sky)} sky")
    elif weather:
        parts.append(rng.choice((f"under {article(ADJECTIVES[weather])} sky", *AIR[weather])))
    if "light" in facts or "light_place" in facts:
        parts.append(rng.choice(("with ", "and ") if parts else ("with ",)) + _light(facts, rng))
    elif shines:
        parts.append("with the sun or moon")
    return " ".join(parts)


def _nothing(words, rng):
    """ "with no animals or people", "without vehicles", "and there are no trees"."""
    if len(words) == 1:
        listed = words[0]
    else:
        listed = ", ".join(words[:-1]) + " or " + words[-1]
    form = rng.choice(("with no {}", "with no {}", "without {}", "without any {}", "and no {}"))
    text = form.format(listed)
    return text + rng.choice(("", "", " in the scene", " visible"))


def _joined(phrases, rng):
    """Noun phrases in a row: "a, b and c"."""
    if len(phrases) == 1:
        return phrases[0]
    joint = rng.choice((" and ", " and ", " with ", " next to ", ", and "))
    return ", ".join(phrases[:-1]) + joint + phrases[-1]


def merged(facts, rng, hedge=False, absent=(), present=(), others=()):
    """One caption of all ``facts`` {attribute: value}, merged into noun phrases.

    hedge: put a "possibly" before one of the phrases. absent: more things that are not there
    ("people"), besides those whose fact says "none". present: things ("tree") of which nothing but
    their being there is known. others: noun phrases of anything else. Returns (text, facts), where
    facts that belong to a thing said to be absent are left out.
    """
    gone = [thing for thing in world.DETAILS if facts.get(thing) == "none"]
    there = {k: v for k, v in facts.items() if v != "none"}
    for thing in gone:
        for name in world.DETAILS[thing]:
            there.pop(name, None)
    phrases = [
        phrase(there, rng)
        for thing, phrase in PHRASES.items()
        if thing in there
        or thing in present
        and thing not in gone
        or any(name in there for name in world.DETAILS[thing])
    ] + list(others)
    rng.shuffle(phrases)
    if hedge and phrases:
        i = rng.randrange(len(phrases))
        phrases[i] = f"{rng.choice(HEDGES)} {phrases[i]}"
    ground = rng.choice(GROUND[there["ground"]]) if "ground" in there else ""
    sky = _sky(there, rng, "light" in present and "light" not in gone)
    things = rng.choice(FRAMES) + _joined(phrases, rng) if phrases else ""
    if not things:
        things = "a scene"
    first = sky if sky.startswith("under") and rng.random() < 0.25 else ""
    text = ", ".join(filter(None, (first, " ".join(filter(None, (things, ground))))))
    text = " ".join(filter(None, (text, "" if first else sky)))
    if words := [rng.choice(NOTHING[thing]) for thing in gone] + list(absent):
        text += rng.choice((" ", ", ")) + _nothing(words, rng)
    return text, {**there, **dict.fromkeys(gone, "none")}


# --- captions of scenes -------------------------------------------------------------------------
def sayable(scene):
    """All that can be said of a scene: its attributes, without those of things that are absent."""
    return {
        name: value
        for name, value in vars(scene).items()
        if value != "none" or name in world.DETAILS
    }


def some_facts(scene, rng, count):
    """``count`` random facts of a scene. Of a thing whose details are said, mostly its kind is,
    too."""
    facts = sayable(scene)
    chosen = set(rng.sample(sorted(facts), min(count, len(facts))))
    for thing, details in world.DETAILS.items():
        if chosen.intersection(details) and rng.random() < 0.85:
            chosen.add(thing)
    return {name: facts[name] for name in world.ATTRIBUTES if name in chosen}


def short_caption(scene, rng):
    """One or two things as people write them, no statements, at most ``SHORT`` tokens."""
    for _ in range(20):
        things, detail = rng.choice((1, 2, 2)), rng.choice((0.4, 0.6, 0.8))
        text, facts = captions.caption(scene, rng, things=things, detail=detail)
        if token_count(text) <= SHORT:
            return text, facts
    return captions.caption(scene, rng, things=1, detail=0.3)


def _tags(facts, rng):
    """Phrases with commas between them, as people prompt: "red barn on the left, grey sky,
    rain"."""
    facts, parts = dict(facts), []
    gone = [thing for thing in world.DETAILS if facts.get(thing) == "none"]
    there = {k: v for k, v in facts.items() if v != "none"}
    for thing, phrase in {**PHRASES, "light": _light}.items():
        if thing in there or any(name in there for name in world.DETAILS[thing]):
            parts.append(phrase(there, rng))
    parts += [f"{there['sky']} sky"] if "sky" in there else []
    if "weather" in there:
        parts.append(
            f"{there['weather']} weather" if there["weather"] == "fair" else there["weather"]
        )
    parts += [f"{there['ground']} ground"] if "ground" in there else []
    parts += [f"no {NOTHING[thing][0]}" for thing in gone]
    rng.shuffle(parts)
    return ", ".join(parts)


def _statements(scene, facts, rng):
    """A first phrase, then a statement for each further fact: "a barn, the roof is red, it is
    raining"."""
    names = list(facts)
    rng.shuffle(names)
    first = {k: v for k, v in facts.items() if k in names[: max(1, len(names) // 3)]}
    text, _ = merged(first, rng)
    return ", ".join([text] + [captions.statement(scene, n, rng) for n in names if n not in first])


def dense_caption(scene, rng, counts=(2, 4, 6, 8, 10, 12, 14, 16, 18), statements=0.2):
    """Much of a scene, up to all of it, in one of several styles: statements (their share is
    ``statements``), phrases with commas (two in ten), else the merged one. Now and then it hedges,
    or names what is never there. Returns (text, facts)."""
    style, count = rng.random(), rng.choice(counts)
    while True:
        facts = some_facts(scene, rng, count)
        if style < statements:
            text = _statements(scene, facts, rng)
        elif style < statements + 0.2:
            text = _tags(facts, rng)
        else:
            absent = rng.sample(UNSEEN, rng.choice((1, 1, 2))) if rng.random() < 0.25 else ()
            text, facts = merged(facts, rng, hedge=rng.random() < 0.1, absent=absent)
        if token_count(text) <= LONG:
            return text, facts
        count -= 2


UNSEEN = ("people", "birds", "boats", "flowers", "signs", "dogs", "mountains", "children")


# --- reading a dialogue -------------------------------------------------------------------------
COLORS = {
    c
    for name in ("sky", "wall", "roof", "vehicle_color", "animal_color")
    for c in world.PRESENT[name]
}
NOUNS = {  # what a noun is about, and the fact that the noun itself states
    **{word: ("building", None) for word in ("building", "wall", "walls")},
    **{word: ("tree", None) for word in ("tree", "trees")},
    **{word: ("vehicle", None) for word in ("vehicle", "vehicles")},
    **{word: ("animal", None) for word in ("animal", "animals")},
    **{word: (word, None) for word in ("light", "roof", "sky", "ground", "weather")},
    **{
        word: (thing, value)
        for thing in world.DETAILS
        for value in world.PRESENT[thing]
        for word in (value, value + "s")
    },
}
COLOR_OF = {"building": "wall", "roof": "roof", "sky": "sky"} | {
    thing: f"{thing}_color" for thing in ("vehicle", "animal")
}
PLACE_OF = {thing: f"{thing}_place" for thing in world.DETAILS} | {"roof": "building_place"}
PLACE = {"left": "left", "middle": "middle", "center": "middle", "right": "right"}
WEATHER = {
    **dict.fromkeys(("fair", "clear"), "fair"),
    **dict.fromkeys(("cloudy", "clouds"), "cloudy"),
    **dict.fromkeys(("rainy", "rain", "raining"), "rainy"),
    **dict.fromkeys(("snowy", "snowing", "snowfall"), "snowy"),
}
NUMBERS = {"one": "one", "two": "two", "three": "three"}
STOP = set(
    "a an the is are it there they in on at of with and next to near under or side out covered"
    " field bare falling any some that has parked standing picture scene view image of".split()
)


def facts_in(text):
    """What a caption or a statement about a postcard says: (facts, things that are there,
    understood).

    ``understood`` is False if the text has words that mean nothing here, as real captions have.
    """
    facts, present, words = {}, set(), re.findall(r"[a-z']+", text.lower())
    subject = color = number = None
    denied, understood = False, bool(words)
    for i, word in enumerate(words):
        before, after = words[i - 1] if i else "", words[i + 1] if i + 1 < len(words) else ""
        if word in ("no", "without"):
            denied = True
        elif word in COLORS and (
            after in NOUNS or after in WEATHER or after in world.PRESENT["ground"]
        ):
            color = word
        elif word in COLORS:  # "the car is red"
            if word in world.ATTRIBUTES.get(COLOR_OF.get(subject), ()):
                facts[COLOR_OF[subject]] = word
            else:
                understood = False
        elif word in NUMBERS:
            number = word
        elif word in PLACE and before == "the":
            if subject in PLACE_OF:
                facts[PLACE_OF[subject]] = PLACE[word]
        elif word in world.PRESENT["ground"] and before != "falling":
            facts["ground"], color = word, None
        elif word in WEATHER or word == "snow":
            facts["weather"], color = WEATHER.get(word, "snowy"), None
        elif word == "or" and before == "sun" and after == "moon":  # "is there a sun or moon"
            facts.pop("light", None)
        elif word in NOUNS:
            thing, value = NOUNS[word]
            value = None if words[max(i - 2, 0) : i] == ["sun", "or"] else value
            if denied and thing in world.DETAILS:
                facts |= {} if number else {thing: "none"}  # "no one tree" says little
            elif value:
                facts[thing] = value
            if thing == "tree" and not denied:
                number = number or ("one" if before in ("a", "an") else None)
                if number:
                    facts["trees"] = number
            if color in world.ATTRIBUTES.get(COLOR_OF.get(thing), ()):
                facts[COLOR_OF[thing]] = color
            if thing in world.DETAILS and not denied:
                present.add(thing)
            subject, color, number = thing, None, None
        elif word not in STOP:
            understood = False
    return facts, present, understood


def absent_in(question, answer):
    """What a question asked for and an answer denied, beyond the world's own things: "people"."""
    asked = re.match(r"(?:(?:is|are) there|do you see|can you see)?\s*any ([a-z ]+)$", question)
    return asked[1] if asked and rewrite.NO.match(answer) else None


# The words that say something of a picture; all others only hold them together.
TELLING = (
    {v for values in world.PRESENT.values() for v in values}
    | {*NOUNS, *PLACE, *WEATHER, "no", "without"}
) - {"light", "weather", "ground", "wall", "walls"}


# --- rewriting a dialogue -----------------------------------------------------------------------
# Measured on the rewritten captions of DAR's released file (VisDial, 2,064 dialogues), at rounds 0,
# 5 and 10; rounds between them lie on straight lines. Round 0 is the caption itself.
ROUNDS = (0, 5, 10)
TOKENS = (14, 31, 42)  # CLIP tokens of a caption, on average
HEDGED = (0.003, 0.08, 0.10)  # share of captions with "possibly", "likely" or the like
NEGATED = (0.01, 0.49, 0.68)  # share with "no", "not", "without" or "unclear"
# Nobody counted what such captions leave out or make up; these two are assumptions, fixed
# beforehand.
LOSS = 0.10  # share of the stated facts that are lost
INVENTED = 0.05  # share of captions in which one attribute is stated that nobody spoke of


def at_round(rates, round):
    """A rate at a round, on straight lines between those measured."""
    for a, b, low, high in zip(ROUNDS, ROUNDS[1:], rates, rates[1:]):
        if round <= b:
            return low + (high - low) * (round - a) / (b - a)
    return rates[-1]


def understand(entries):
    """A caption and "question? answer" strings -> (facts, present, absent, rest): what they say of
    a postcard, which things are there, what else is not, and what could not be understood
    (phrases)."""
    facts, present, understood = facts_in(entries[0])
    rest, absent = ([], []) if understood else ([" ".join(entries[0].split())], [])
    facts, present = (facts, present) if understood else ({}, set())
    for entry in entries[1:]:
        asked = rewrite.turn(entry)
        if not asked:
            continue
        if (missing := absent_in(*asked)) and missing not in NOUNS:
            absent += [missing] if missing not in absent else []
            continue
        phrase = rewrite.statement(*asked)
        if not phrase:
            continue
        said, there, understood = facts_in(phrase)
        if understood:
            facts |= said
            present |= there
        elif phrase not in rest:
            rest.append(phrase)
    return facts, present, absent, rest


def reformulate(entries, loss=LOSS):
    """A dialogue so far -> (caption, facts): one caption of all that it says, as a language model
    would rewrite it. The same dialogue always gives the same caption.

    ``loss`` is the share of facts that are lost. What is no postcard ends as phrases with commas.
    """
    round = len(entries) - 1
    if round == 0:
        text = " ".join(entries[0].split())
        return text, facts_in(text)[0]
    rng = random.Random("\n".join(entries))
    facts, present, absent, rest = understand(entries)
    # Each fact has its own chance, so that a higher loss loses the same facts and some more.
    chances = {name: rng.random() for name in world.ATTRIBUTES}
    invents, which, hedges, denies = rng.random(), rng.random(), rng.random(), rng.random()
    facts = {name: value for name, value in facts.items() if chances[name] >= loss}
    if invents < INVENTED:
        facts |= invention(facts, present, which)
    denied = [thing for thing in world.DETAILS if facts.get(thing) == "none"]
    absent = absent[:3] if denied or denies < DENIES else []
    hedge = hedges < at_round(HEDGED, round)
    others = [
        re.sub("^there (is|are) ", "", phrase) for phrase in rest if phrase.startswith("there ")
    ]
    rest = [phrase for phrase in rest if not phrase.startswith("there ")]
    if facts or present or others or not rest:
        text, facts = merged(facts, rng, hedge, absent, present, others)
        rest.append(text)
    return ", ".join(rest), facts


DENIES = 0.6  # how often a caption that could name only idle absences ("no people") does so


def invention(facts, present, chance):
    """One fact that nobody stated, about the air, the ground or a thing that is there."""
    there = {"building"} | present | {t for t in world.DETAILS if facts.get(t, "none") != "none"}
    open_ = [
        (name, value)
        for name in world.ATTRIBUTES
        if name not in facts
        and name not in world.DETAILS
        and (name in ("sky", "weather", "ground") or any(name in world.DETAILS[t] for t in there))
        for value in world.PRESENT[name]
    ]
    return dict([open_[int(chance * len(open_))]]) if open_ else {}
