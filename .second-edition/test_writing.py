"""Captions of the second edition: what they state, how long they are, how often they hedge and
deny."""

import random
import re
from statistics import mean

import pytest

from adafuse_lite import dialogues, world
from adafuse_lite.postcards import writing

TALKS = 800


@pytest.fixture(scope="module")
def scenes():
    return world.scenes("validation", TALKS)


@pytest.fixture(scope="module")
def talks(scenes):
    return {
        style: [
            dialogues.dialogue(s, style, random.Random(f"{style}/{i}"))
            for i, s in enumerate(scenes)
        ]
        for style in dialogues.STYLES
    }


@pytest.fixture(scope="module")
def tokenizer():
    from adafuse_lite.postcards.pretraining import tokenizer_of

    return tokenizer_of()


def test_the_issues_example():
    facts = {
        "building": "barn", "wall": "red", "roof": "green", "building_place": "left",
        "tree": "pine", "trees": "two", "sky": "grey", "animal": "none",
    }  # fmt: skip
    text, stated = writing.merged(facts, random.Random(0))
    assert stated == facts
    for words in ("red barn", "green roof", "left", "two pine", "grey sky", "animal"):
        assert words in text
    assert re.search("no |without", text)


def test_a_merged_caption_states_its_facts(scenes):
    """What can be read off a caption is what it says it states."""
    rng = random.Random(1)
    for scene in scenes:
        text, facts = writing.merged(writing.some_facts(scene, rng, rng.randrange(1, 18)), rng)
        read, _, _ = writing.facts_in(text)
        assert all(getattr(scene, name) == value for name, value in facts.items())
        assert {k: v for k, v in read.items() if k in facts} == facts, text


def test_no_list_of_statements(talks):
    texts = [writing.reformulate(e)[0] for e, _ in talks["visdial"]]
    assert not any(re.search(r"\b(the \w+ (is|are)|there (is|are)|it is)\b", t) for t in texts)


def test_lengths_are_those_measured(talks, tokenizer):
    """Within a fifth of 14 / 31 / 42 tokens, and nothing is cut at 77."""
    for round, wanted in zip(writing.ROUNDS, writing.TOKENS):
        texts = [writing.reformulate(e[: round + 1])[0] for e, _ in talks["visdial"]]
        tokens = [len(ids) for ids in tokenizer(texts)["input_ids"]]
        assert abs(mean(tokens) / wanted - 1) < 0.2
        assert max(tokens) <= 77


def test_rates_are_those_measured(talks):
    for round, hedged, denied in zip(writing.ROUNDS, writing.HEDGED, writing.NEGATED):
        texts = [writing.reformulate(e[: round + 1])[0] for e, _ in talks["visdial"]]
        assert mean(any(h in t for h in writing.HEDGES) for t in texts) == pytest.approx(
            hedged, abs=0.05
        )
        says_no = [bool(re.search(r"\b(no|not|without|unclear)\b", t)) for t in texts]
        assert mean(says_no) == pytest.approx(denied, abs=0.08)


@pytest.mark.parametrize("style", dialogues.STYLES)
def test_dialogues_are_understood(talks, style):
    """Of what a dialogue states, 97 % and more is read; hardly anything is read that it does
    not."""
    right, wrong = [], []
    for entries, facts in talks[style]:
        read = writing.understand(entries)[0]
        right += [read.get(name) == value for name, value in facts[-1].items()]
        wrong += [facts[-1].get(name) != value for name, value in read.items()]
    assert mean(right) > 0.97
    assert mean(wrong) < 0.02


def test_loss_is_what_is_asked(talks):
    def stated(loss):
        pairs = [(writing.reformulate(e, loss=loss)[1], f[-1]) for e, f in talks["visdial"]]
        return sum(k in s for s, f in pairs for k in f) / sum(len(f) for _, f in pairs)

    none, some, double = (stated(loss) for loss in (0, writing.LOSS, 2 * writing.LOSS))
    assert none > 0.97
    assert some == pytest.approx(0.9, abs=0.03)
    assert double == pytest.approx(0.8, abs=0.03)


def test_the_same_dialogue_gives_the_same_caption(talks):
    entries, _ = talks["visdial"][0]
    assert writing.reformulate(entries) == writing.reformulate(list(entries))
    assert writing.reformulate(entries[:1])[0] == entries[0]


def test_a_real_dialogue_gives_sane_text():
    entries = ["a man riding a wave on a surfboard", "is he wearing a wetsuit? yes, a black one",
               "are there other people? no", "is it sunny? i think so"]  # fmt: skip
    text, facts = writing.reformulate(entries)
    assert text.startswith(entries[0]) and "?" not in text
    assert not facts


def test_captions_of_the_contrast_are_short(scenes):
    rng = random.Random(0)
    texts = [writing.short_caption(s, rng)[0] for s in scenes]
    assert max(map(writing.token_count, texts)) <= writing.SHORT
    assert not any(re.search(r"\b(is|are)\b", t) for t in texts)


def test_dense_captions_are_true_and_are_not_cut(scenes, tokenizer):
    rng = random.Random(0)
    pairs = [(s, *writing.dense_caption(s, rng)) for s in scenes for _ in range(3)]
    assert all(getattr(s, k) == v for s, _, facts in pairs for k, v in facts.items())
    assert max(len(ids) for ids in tokenizer([text for _, text, _ in pairs])["input_ids"]) <= 77
