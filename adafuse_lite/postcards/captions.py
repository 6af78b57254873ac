"""Captions of postcards: noun phrases ("a red car") and statements ("the roof is green").

Each caption comes with the facts it states, ``{attribute: value}``, so that what it says and what
it leaves open are both known. The words are in ``phrases.toml``.
"""

import tomllib
from pathlib import Path

from .world import ATTRIBUTES, DETAILS, thing_of

PHRASES = tomllib.loads(Path(__file__).with_name("phrases.toml").read_text(encoding="utf-8"))
WHERE, STATEMENTS = PHRASES["where"], PHRASES["statements"]


def article(words):
    return ("an " if words[0] in "aeiou" else "a ") + words


def several(kind, number):
    """Trees: "a pine tree", "three oak trees"."""
    return article(f"{kind} tree") if number == "one" else f"{number} {kind} trees"


def fitting(forms, value):
    """The forms for a value: some tables have one list for all values, some one for each."""
    return forms[value] if isinstance(forms, dict) else forms


def unsaid(scene, facts):
    """What could still be stated: no ``facts``, and no details of what is absent."""
    shown = [n for n in ATTRIBUTES if getattr(scene, n) != "none" or n in DETAILS]
    return [n for n in shown if n not in facts]


def phrase(scene, thing, rng, detail):
    """A noun phrase for one thing; each of its details is named with probability ``detail``."""
    kind = getattr(scene, thing)
    facts = {thing: kind}

    def detail_of(name):
        if rng.random() < detail:
            facts[name] = getattr(scene, name)
        return facts.get(name)

    if thing == "tree":
        words = several(kind, scene.trees)
        facts["trees"] = scene.trees
    elif thing == "light":
        words = rng.choice((f"the {kind}", article(kind)))
    else:
        color = detail_of("wall" if thing == "building" else f"{thing}_color")
        words = article(f"{color} {kind}" if color else kind)
        if thing == "building" and (roof := detail_of("roof")):
            words += f" with {article(roof)} roof"
    place = detail_of(f"{thing}_place")
    return f"{words} {rng.choice(WHERE[place])}" if place else words, facts


def caption(scene, rng, things=2, detail=0.6):
    """A caption as people write it: up to ``things`` things, perhaps the ground and the sky.

    Returns (text, facts). ``things`` 1 or 2 gives short captions, 5 everything.
    """
    words = PHRASES["captions"]
    present = [t for t in DETAILS if t != "light" and getattr(scene, t) != "none"]
    chosen = rng.sample(present, min(things, len(present)))
    phrases = [phrase(scene, thing, rng, detail) for thing in chosen]
    text, facts = phrases[0]
    for i, (more, stated) in enumerate(phrases[1:], 2):
        link = f" {rng.choice(words['links'])}" if i == len(phrases) else ","
        text, facts = f"{text}{link} {more}", facts | stated
    if rng.random() < detail * 0.7:
        text += f" {rng.choice(words['ground'][scene.ground])}"
        facts["ground"] = scene.ground
    sky = rng.random() < detail * 0.7
    air = scene.weather != "fair" and rng.random() < detail * 0.7
    if sky:
        text += f" under {article(scene.sky)} sky"
        facts["sky"] = scene.sky
    if air:
        text += f" {'with' if sky else 'in'} {rng.choice(words['weather'][scene.weather])}"
        facts["weather"] = scene.weather
    if scene.light != "none" and rng.random() < detail * 0.5:
        more, stated = phrase(scene, "light", rng, detail)
        text, facts = f"{text} and {more}", facts | stated
    return text, facts


def statement(scene, name, rng):
    """A sentence that states one attribute ("the car is on the left", "there are no trees")."""
    value, thing = getattr(scene, name), thing_of(name)
    plural = thing == "tree" and scene.trees != "one"
    verb = "are" if plural else "is"
    noun = ("trees" if plural else "tree") if thing == "tree" else getattr(scene, thing or name)
    if name.endswith("_place"):
        return f"the {noun} {verb} {rng.choice(WHERE[value])}"
    if name.endswith("_color"):
        return f"the {noun} is {value}"
    forms = STATEMENTS["none"] if value == "none" else STATEMENTS
    words = {"v": value, "a": f"{value}s" if plural else article(value), "x": noun, "is": verb}
    words["several"] = several(scene.tree, scene.trees)
    return rng.choice(fitting(forms[name], value)).format_map(words)


def long_caption(scene, rng):
    """A caption of any length, from one thing to the whole scene: a short one, then statements.

    This is what the generator is trained on. Returns (text, facts).
    """
    things, detail = rng.choice((1, 1, 2, 2, 3, 5)), rng.choice((0.3, 0.6, 0.9))
    text, facts = caption(scene, rng, things, detail)
    names = unsaid(scene, facts)
    rng.shuffle(names)
    for name in names[: rng.choice((0, 0, 1, 2, 4, 6, 8, 12, 18))]:
        text += f", {statement(scene, name, rng)}"
        facts[name] = getattr(scene, name)
    return text, facts
