"""Dialogues about postcards in the format of ChatIR: a caption, then ten strings "question? answer".

Four styles, modelled on the four dialogue files of that benchmark and calibrated to what was measured on them:

* ``visdial``        people ask short questions, people answer, now and then with more words than needed;
* ``human_blip2``    the same kind of questions, a machine answers: curtly, and not always rightly;
* ``chatgpt_blip2``  long, fluent questions of one machine, short answers of another;
* ``flan_blip2``     a machine that repeats its questions and spills stray "Answer:" marks.

Whoever asks has not seen the picture: they know the caption and the answers so far, so they may ask about what is not
there, about what they know already, or about nothing that matters. Beside each dialogue stand the facts that its text
states up to each round, true or not; the truth is in the scene.

One habit of the real files is not copied: Human_BLIP2 has VisDial's last question first, so its rounds are out of step
with VisDial's; here each style asks questions of its own.
"""

from .captions import WHERE, article, caption
from .world import ATTRIBUTES, DETAILS

STYLES = ("visdial", "human_blip2", "chatgpt_blip2", "flan_blip2")
ROUNDS = 11

# How a style asks (share of yes/no questions, of idle questions, of guesses that are right by luck or sense), and how
# often its answers are wrong (yes/no, values).
HABITS = {
    "visdial": dict(polar=0.71, idle=0.36, sense=0.62, flip=0.0, slip=0.0),
    "human_blip2": dict(polar=0.60, idle=0.36, sense=0.62, flip=0.20, slip=0.12),
    "chatgpt_blip2": dict(polar=0.08, idle=0.30, sense=0.50, flip=0.20, slip=0.15),
    "flan_blip2": dict(polar=0.0, idle=0.10, sense=0.0, flip=0.0, slip=0.15),
}

# Questions without their "?"; {x} stands for the thing ("the car"), {v} for a value, {is} for "is" or "are".
OPEN = {
    "sky": ("what color is the sky",),
    "weather": ("what is the weather like", "how is the weather"),
    "ground": ("what is the ground like", "what is the ground made of"),
    "building": ("what kind of building is it", "what kind of building is there"),
    "tree": ("what kind of trees are they", "what kind of trees are there"),
    "trees": ("how many trees are there", "how many trees do you see"),
    "vehicle": ("what kind of vehicle is it", "what kind of vehicle is there"),
    "animal": ("what kind of animal is it", "what kind of animal is there"),
    "roof": ("what color is the roof",),
    "color": ("what color is {x}",),
    "place": ("where {is} {x}", "where {is} {x} in the picture"),
}
EXISTS = {
    "tree": ("are there any trees", "do you see any trees", "are there trees"),
    "vehicle": ("are there any vehicles", "is there a vehicle", "do you see any vehicles"),
    "animal": ("are there any animals", "is there an animal", "do you see any animals"),
    "light": ("is there a sun or moon", "can you see a sun or moon"),
}
POLAR = {
    "sky": ("is the sky {v}",),
    "weather": {
        "fair": ("is the sky clear", "is the weather fair"),
        "cloudy": ("is it cloudy", "are there clouds"),
        "rainy": ("is it raining",),
        "snowy": ("is it snowing",),
    },
    "light": ("is there a {v}", "is the {v} out"),
    "ground": {
        "grass": ("is the ground grass",),
        "sand": ("is the ground sand",),
        "earth": ("is the ground bare earth",),
        "snow": ("is there snow on the ground", "is the ground covered in snow"),
    },
    "building": ("is the building a {v}", "is there a {v}"),
    "tree": ("are the trees {v}s",),
    "trees": {
        "one": ("is there one tree",),
        "two": ("are there two trees",),
        "three": ("are there three trees",),
    },
    "vehicle": ("is there a {v}", "is the vehicle a {v}"),
    "animal": ("is there a {v}", "is the animal a {v}"),
    "roof": ("is the roof {v}",),
    "color": ("{is} {x} {v}",),
    "place": ("{is} {x} {v}",),
}
# Nothing of this is ever drawn: the true answer is no, but for the pictures themselves.
ABSENT = (
    "people",
    "birds",
    "boats",
    "flowers",
    "bridges",
    "signs",
    "dogs",
    "mountains",
    "street lights",
    "children",
    "rivers",
    "flags",
    "bikes",
    "tables",
    "chairs",
    "hills",
)
ASIDE = (
    ("is the picture in color", True),
    ("is it a close up", False),
    ("is the picture taken outside", True),
    ("is the photo clear", True),
    ("is this a photo of a city", False),
    ("is it indoors", False),
    ("is the picture in black and white", False),
    ("is there any text in the picture", False),
)
IDLE_OPEN = (
    ("what is the mood of the picture", ("happy", "peaceful", "calm")),
    ("what is the style of the picture", ("drawing", "a drawing", "flat")),
    ("what is the setting of the picture", ("outdoors", "the country", "a field")),
    ("what is the subject of the picture", ("a drawing", "a place")),
)
NAMES = {
    "weather": {"fair": "fair", "cloudy": "cloudy", "rainy": "raining", "snowy": "snowing"},
    "ground": {"grass": "grass", "sand": "sand", "snow": "snow", "earth": "bare earth"},
}


def thing_of(name):
    """The thing that an attribute belongs to, or None ("roof" -> "building", "sky" -> None)."""
    return next(
        (t for t, details in DETAILS.items() if name in details), name if name in DETAILS else None
    )


def kind_of(name):
    """Which entry of the tables above an attribute uses."""
    return (
        "color"
        if name == "wall" or name.endswith("_color")
        else "place"
        if name.endswith("_place")
        else name
    )


class Talk:
    """What both sides of one dialogue know, and what they say next.

    ``known`` holds the facts stated so far, ``there`` the things known to be in the picture, ``asked`` the questions.
    """

    def __init__(self, scene, style, rng, known):
        self.scene, self.style, self.rng, self.known = scene, style, rng, dict(known)
        self.habits, self.asked = HABITS[style], []
        self.there = {"building"} | {t for t in DETAILS if known.get(t, "none") != "none"}
        self.there |= {thing_of(name) for name in known if thing_of(name)}

    # --- asking -------------------------------------------------------------------------------------------------------
    def noun(self, thing):
        """ "the car" when that is known, else "the vehicle"; and its verb."""
        if thing == "tree":
            one = self.known.get("trees") == "one"
            return ("the tree", "is") if one else ("the trees", "are")
        return f"the {self.known.get(thing, thing)}", "is"

    def unknown(self):
        """Attributes one may sensibly ask for now: of the air and ground, and of things known to be there."""
        gone = {t for t in DETAILS if self.known.get(t) == "none"}
        return [
            n
            for n in ATTRIBUTES
            if n not in self.known
            and thing_of(n) not in gone
            and (n in DETAILS or thing_of(n) is None or thing_of(n) in self.there)
            and not (n == "light_place" and "light" not in self.known)
        ]

    def fill(self, form, name, value=None):
        x, verb = self.noun(thing_of(name)) if thing_of(name) else ("", "is")
        said = self.rng.choice(WHERE[value]) if kind_of(name) == "place" and value else value
        return form.format(x=x, v=said, **{"is": verb})

    def question(self):
        """The next question: (what it is, attribute, value asked for, text)."""
        rng = self.rng
        if rng.random() < self.habits["idle"]:
            return self.idle()
        open_, polar = self.unknown(), rng.random() < self.habits["polar"]
        if not open_:
            return self.idle()
        name = rng.choice(open_)
        if (
            name in EXISTS
            and name not in self.there
            and (self.style != "flan_blip2" or name == "light")
        ):
            if self.style == "flan_blip2":
                return self.idle()
            return "exists", name, None, rng.choice(EXISTS[name])
        if polar or name == "light":
            truth = getattr(self.scene, name)
            others = [v for v in ATTRIBUTES[name] if v not in ("none", truth)]
            value = (
                truth
                if truth != "none" and rng.random() < self.habits["sense"]
                else rng.choice(others)
            )
            forms = POLAR[kind_of(name)]
            form = rng.choice(forms[value] if isinstance(forms, dict) else forms)
            return "polar", name, value, self.fill(form, name, value)
        return "open", name, None, self.fill(rng.choice(OPEN[kind_of(name)]), name)

    def idle(self):
        """A question that brings nothing: on what is known already, or on what no postcard shows."""
        rng = self.rng
        unfit = ("tree", "trees", "light") if self.style == "flan_blip2" else ("tree", "trees")
        old = [n for n, v in self.known.items() if v != "none" and kind_of(n) not in unfit]
        if self.style == "flan_blip2" and (not old or rng.random() < 0.3):
            return "idle open", None, *rng.choice(IDLE_OPEN)[::-1]
        if old and rng.random() < 0.2 or self.style == "flan_blip2":
            name = rng.choice(old)
            if self.style == "flan_blip2":
                return "open", name, None, self.fill(rng.choice(OPEN[kind_of(name)]), name)
            forms, value = POLAR[kind_of(name)], self.known[name]
            form = rng.choice(forms[value] if isinstance(forms, dict) else forms)
            return "polar", name, value, self.fill(form, name, value)
        if rng.random() > self.habits["polar"]:
            return "idle open", None, *rng.choice(IDLE_OPEN)[::-1]
        if rng.random() < 0.35:
            text, value = rng.choice(ASIDE)
            return "idle", None, value, text
        what = rng.choice(ABSENT)
        return (
            "idle",
            None,
            False,
            rng.choice(("are there any {}", "do you see any {}", "any {}")).format(what),
        )

    # --- answering ----------------------------------------------------------------------------------------------------
    def say(self, name, value):
        """A value as an answer: "red", "a cow", "on the left", "two"."""
        if kind_of(name) == "place":
            return self.rng.choice(WHERE[value])
        if name in NAMES:
            return NAMES[name][value]
        if name in ("building", "vehicle", "animal"):
            return article(value) if self.style == "visdial" or self.rng.random() < 0.5 else value
        return value

    def sentence(self, name, value):
        """The same in more words: "it is red", "the roof is red"."""
        said, (x, verb) = (
            self.say(name, value),
            self.noun(thing_of(name)) if thing_of(name) else (f"the {name}", "is"),
        )
        if name == "trees":
            return f"there is {said}" if said == "one" else f"there are {said}"
        if name == "tree":
            return f"they are {said} trees"
        if name == "weather":
            return f"it is {said}"
        if kind_of(name) in ("color", "place") and self.rng.random() < 0.35:
            return f"{x} {verb} {said}"
        return f"they are {said}" if verb == "are" else f"it is {said}"

    def value(self, name):
        """The value that the answerer sees: the truth, or with a machine now and then another one."""
        truth = getattr(self.scene, name)
        if truth == "none" or self.rng.random() < self.habits["slip"]:
            return self.rng.choice([v for v in ATTRIBUTES[name] if v not in ("none", truth)])
        return truth

    def answer(self, what, name, value):
        """The answer to a question: (text, facts it states)."""
        rng, human = self.rng, self.style == "visdial"
        if what == "idle open":
            return rng.choice(value), {}
        if what == "open":
            seen = self.value(name)
            if human and rng.random() < 0.03:
                return rng.choice(("i can't tell", "hard to tell")), {}
            long = rng.random() < (0.75 if human else 0.25 if self.style == "flan_blip2" else 0.0)
            hedge = rng.choice(("", "", "", "i think ", "i would say ")) if human else ""
            return hedge + (self.sentence if long else self.say)(name, seen), {name: seen}
        if what == "exists":
            there = getattr(self.scene, name) != "none"
        else:
            there = value if name is None else getattr(self.scene, name) == value
        if rng.random() < self.habits["flip"]:
            there = not there
        if human:
            return self.human_polar(what, name, value, there)
        facts = (
            {name: value if there else "none"}
            if what == "polar" and there or what == "exists" and not there
            else {}
        )
        if there and what == "exists":
            self.there.add(name)
        return "yes" if there else "no", facts

    def human_polar(self, what, name, value, there):
        """A person's answer to a yes/no question: often just that, sometimes more."""
        rng, scene = self.rng, self.scene
        if rng.random() < 0.05:
            return rng.choice(("i can't tell", "not sure", "can't tell")), {}
        plain = rng.random() < (0.35 if what == "exists" else 0.6)
        if what == "idle":
            if plain:
                return "yes" if there else "no", {}
            return rng.choice(
                ("yes, it is", "i think so", "it looks like it", "yes, it seems so")
                if there
                else (
                    "not that i can see",
                    "i don't see any",
                    "none that i can see",
                    "no, not really",
                    "nope",
                )
            ), {}
        if what == "exists" and there:
            self.there.add(name)
            if plain:
                return "yes", {}
            if name == "tree":
                kind = f"{scene.trees} {scene.tree} tree{'s' * (scene.trees != 'one')}"
                facts = {"tree": scene.tree, "trees": scene.trees}
            else:
                tint = f"{name}_color" if name != "light" and rng.random() < 0.5 else None
                kind = article((f"{getattr(scene, tint)} " if tint else "") + getattr(scene, name))
                facts = {n: getattr(scene, n) for n in (name, tint) if n}
            if rng.random() < 0.5:
                kind += " " + rng.choice(WHERE[getattr(scene, f"{name}_place")])
                facts[f"{name}_place"] = getattr(scene, f"{name}_place")
            return f"yes, {kind}", facts
        if what == "exists":
            return "no" if plain else rng.choice(
                ("no, there are none", "none that i can see", "i don't see any")
            ), {name: "none"}
        if there:
            if not plain and kind_of(name) in ("color", "sky", "roof") and rng.random() < 0.4:
                return f"yes, {self.sentence(name, value)}", {name: value}
            return "yes" if plain else rng.choice(
                ("yes, it is", "i think so", "it looks like it", "yes, i think so")
            ), {name: value}
        truth = getattr(scene, name)
        if plain or truth == "none" or kind_of(name) in ("light", "trees"):
            return "no", {}
        return f"no, {self.sentence(name, truth)}", {name: truth}


# --- the styles' own manners -----------------------------------------------------------------------------------------
LEADS = ("Can you tell me, ", "In this picture, ", "From what you can see, ")
TAILS = (
    " in the picture",
    " that is shown in the picture",
    " in this image",
    " that you can see in the image",
    " shown in this scene",
    " that can be seen in the picture",
)
ASK_AGAIN = (
    0,
    0,
    0.15,
    0.32,
    0.58,
    0.78,
    0.88,
    0.94,
    0.97,
    0.98,
    0.99,
)  # flan: per round, from the real file
STRAY = (0, 0, 0.01, 0.40, 0.57, 0.76, 0.91, 0.96, 0.98, 0.99, 0.99)


def fluent(text, rng):
    """The question as a language model would put it: with a lead-in, or with more words at its end."""
    again = text.endswith("picture")
    if rng.random() < 0.25 or again:
        text = rng.choice(LEADS) + text
    if not again and rng.random() < 0.75:
        text += rng.choice(TAILS)
    return text[0].upper() + text[1:]


def spill(question, answer, turn, rng):
    """An answer in FLAN's manner: said twice and more behind stray marks, now and then with the question asked once more and
    left open. Returns (question mark + answer)."""
    if rng.random() < 2 / 20_640:
        return "?"
    mark = "?" if rng.random() > 0.003 else ""
    if rng.random() >= STRAY[turn]:
        return f"{mark} {answer}"
    if rng.random() < 429 / 13_547:
        return f"{mark} Answer: {answer} {question}?"
    late = turn / 10
    if rng.random() < 0.1 * late:
        return f"{mark} Answer: {answer} {question}? Answer: {answer}"
    text = f"Answer: {answer} " * (2 if rng.random() < 0.45 * late**2 else 1)
    return f"{mark} {text}" + " ".join([answer] * rng.choices((1, 2, 3), (1.0, late, late**2))[0])


def dialogue(scene, style, rng):
    """A dialogue about ``scene`` in one of the ``STYLES``, with a ``random.Random``.

    Returns (entries, facts): 11 strings, and 11 dicts ``{attribute: value}`` with all that the text states up to that
    round (the latest value, where a machine contradicts itself).
    """
    text, known = caption(scene, rng, things=rng.choice((1, 2, 2)), detail=rng.choice((0.3, 0.5)))
    talk, entries, facts, past = Talk(scene, style, rng, known), [text], [dict(known)], []
    for turn in range(1, ROUNDS):
        if style == "flan_blip2" and rng.random() < ASK_AGAIN[turn] and past:
            asked, text = past[-1] if rng.random() < 0.7 else rng.choice(past)
            reply, stated = asked[4:] if rng.random() < 0.85 else talk.answer(*asked[:3])
        else:
            asked = talk.question()
            for _ in range(20):  # nobody asks the same twice
                if asked[3] not in talk.asked:
                    break
                asked = talk.question()
            text = asked[3]
            if style == "chatgpt_blip2":
                text = fluent(text, rng)
            elif style == "flan_blip2":
                text = (
                    text[0].upper()
                    + text[1:]
                    + ("" if text.endswith("picture") else rng.choice(TAILS[:3:2] + ("",)))
                )
            talk.asked.append(asked[3])
            reply, stated = talk.answer(*asked[:3])
            past.append(((*asked, reply, stated), text))
        if style == "flan_blip2":
            end = spill(text, reply, turn, rng)
            stated = {} if end == "?" else stated
        elif style == "chatgpt_blip2" and rng.random() < 151 / 20_640:
            end = f"?\nAnswer: {reply}"
        else:
            end = f"? {reply}"
        entries.append(text + end)
        talk.known.update(stated)
        talk.there.update(t for t in stated if t in DETAILS and stated[t] != "none")
        facts.append(dict(talk.known))
    return entries, facts
