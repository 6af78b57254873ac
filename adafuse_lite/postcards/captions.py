"""Captions of postcards: noun phrases ("a red car on the left") and short statements ("the roof is green").

Each function returns the text together with the facts it states, ``{attribute: value}``, so that what a caption says and
what it leaves open are both known.
"""

from .world import DETAILS

WHERE = {
    "left": ("on the left", "on the left side", "at the left"),
    "middle": ("in the middle", "in the center"),
    "right": ("on the right", "on the right side", "at the right"),
}
GROUND = {
    "grass": ("on the grass", "on green grass", "in a grass field"),
    "sand": ("on the sand", "on yellow sand"),
    "snow": ("on the snow", "in the snow"),
    "earth": ("on brown earth", "on the bare earth"),
}
WEATHER = {
    "cloudy": ("clouds", "white clouds"),
    "rainy": ("rain", "falling rain"),
    "snowy": ("falling snow", "snowfall"),
}
NUMBER = {"one": "a", "two": "two", "three": "three"}


def article(words):
    return ("an " if words[0] in "aeiou" else "a ") + words


def trees(scene):
    """ "a pine tree", "three oak trees"."""
    return (
        article(f"{scene.tree} tree")
        if scene.trees == "one"
        else f"{NUMBER[scene.trees]} {scene.tree} trees"
    )


def phrase(scene, thing, rng, detail):
    """A noun phrase for one thing; each of its details is named with probability ``detail``."""
    kind, facts = getattr(scene, thing), {thing: getattr(scene, thing)}
    says = lambda name: rng.random() < detail and facts.setdefault(name, getattr(scene, name))
    if thing == "tree":
        words = trees(scene)
        facts["trees"] = scene.trees
        place = says("tree_place")
    elif thing == "light":
        words, place = rng.choice((f"the {kind}", article(kind))), says("light_place")
    elif thing == "building":
        words = article(f"{scene.wall} {kind}" if says("wall") else kind)
        if says("roof"):
            words += f" with {article(scene.roof)} roof"
        place = says("building_place")
    else:
        words = article(
            f"{getattr(scene, thing + '_color')} {kind}" if says(thing + "_color") else kind
        )
        place = says(thing + "_place")
    return (f"{words} {rng.choice(WHERE[place])}" if place else words), facts


def caption(scene, rng, things=2, detail=0.6):
    """A caption as a person would write it: up to ``things`` of what is there, then perhaps the ground and the sky.

    Returns (text, facts). ``things`` 1 or 2 gives the short captions the encoder is trained on, 5 everything.
    """
    present = [t for t in DETAILS if t != "light" and getattr(scene, t) != "none"]
    chosen = rng.sample(present, min(things, len(present)))
    texts, facts = [], {}
    for thing in chosen:
        text, said = phrase(scene, thing, rng, detail)
        texts.append(text)
        facts.update(said)
    text = texts[0]
    for i, other in enumerate(texts[1:], 2):
        text += (
            (" " + rng.choice(("and", "next to", "near", "with")) if i == len(texts) else ",")
            + " "
            + other
        )
    if rng.random() < detail * 0.7:
        text += " " + rng.choice(GROUND[scene.ground])
        facts["ground"] = scene.ground
    sky = rng.random() < detail * 0.7
    air = scene.weather != "fair" and rng.random() < detail * 0.7
    if sky:
        text += f" under {article(scene.sky)} sky"
        facts["sky"] = scene.sky
    if air:
        text += (" with " if sky else " in ") + rng.choice(WEATHER[scene.weather])
        facts["weather"] = scene.weather
    if scene.light != "none" and rng.random() < detail * 0.5:
        said, fact = phrase(scene, "light", rng, detail)
        text += " and " + said
        facts.update(fact)
    return text, facts


def statement(scene, name, rng):
    """A short sentence that states one attribute of the scene ("the car is on the left", "there are no trees")."""
    value = getattr(scene, name)
    noun = {
        "tree": "tree" if scene.trees == "one" else "trees",
        "building": scene.building,
        "light": scene.light,
        "vehicle": scene.vehicle,
        "animal": scene.animal,
    }
    verb = "are" if noun["tree"] == "trees" else "is"
    if name.endswith("_place"):
        thing = name[:-6]
        return f"the {noun[thing]} {verb if thing == 'tree' else 'is'} {rng.choice(WHERE[value])}"
    if name.endswith("_color"):
        return f"the {noun[name[:-6]]} is {value}"
    if value == "none":
        return rng.choice(
            {
                "light": ("there is no sun or moon",),
                "tree": ("there are no trees",),
                "vehicle": ("there is no vehicle", "there are no vehicles"),
                "animal": ("there is no animal", "there are no animals"),
            }[name]
        )
    if name == "tree":
        return rng.choice(
            (
                f"the {noun[name]} {verb} {article(value) if verb == 'is' else value + 's'}",
                f"there {verb} {trees(scene)}",
            )
        )
    options = {
        "sky": (f"the sky is {value}",),
        "weather": {
            "fair": ("the weather is fair", "the sky is clear"),
            "cloudy": ("it is cloudy", "there are clouds"),
            "rainy": ("it is raining",),
            "snowy": ("it is snowing",),
        }.get(value),
        "light": (f"there is {article(value)}", f"the {value} is out"),
        "ground": {
            "grass": ("the ground is grass",),
            "sand": ("the ground is sand",),
            "snow": ("the ground is covered in snow", "there is snow on the ground"),
            "earth": ("the ground is bare earth", "the ground is brown earth"),
        }.get(value),
        "building": (f"the building is {article(value)}", f"there is {article(value)}"),
        "wall": (f"the {scene.building} is {value}", f"the walls are {value}"),
        "roof": (f"the roof is {value}",),
        "trees": (f"there {verb} {value} {noun['tree']}",),
        "vehicle": (f"there is {article(value)}", f"the vehicle is {article(value)}"),
        "animal": (f"there is {article(value)}", f"the animal is {article(value)}"),
    }
    return rng.choice(options[name])


def long_caption(scene, rng):
    """A caption of any length, from one thing to the whole scene: a short caption, then statements.

    This is what the generator is trained on. Returns (text, facts).
    """
    text, facts = caption(
        scene, rng, things=rng.choice((1, 1, 2, 2, 3, 5)), detail=rng.choice((0.3, 0.6, 0.9))
    )
    kinds = [t for t in DETAILS if getattr(scene, t) == "none"]
    open_ = [
        n
        for n in scene.__dataclass_fields__
        if n not in facts and (getattr(scene, n) != "none" or n in kinds)
    ]
    rng.shuffle(open_)
    for name in open_[: rng.choice((0, 0, 1, 2, 4, 6, 8, 12, 18))]:
        said = statement(scene, name, rng)
        facts[name] = getattr(scene, name)
        text += ", " + said
    return text, facts
