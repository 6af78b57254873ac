"""The rule-based rewriting of a dialogue into a prompt."""

import pytest

from adafuse_lite import rewrite


@pytest.mark.parametrize(
    ("entry", "phrase"),
    [
        ("what color is the roof? it is red", "the roof is red"),
        ("what color is the car? the car is red", "the car is red"),
        ("where is the barn in the picture? on the left", "the barn is on the left"),
        ("where are the trees? they are on the left", "the trees are on the left"),
        ("how many trees are there? two", "there are two trees"),
        ("how many trees are there? there is one", "there is one tree"),
        ("what kind of vehicle is it? it is a truck", "there is a truck"),
        ("what kind of trees are they? palm", "the trees are palms"),
        ("what is the ground like? it is bare earth", "the ground is bare earth"),
        ("how is the weather? it is cloudy", "it is cloudy"),
        ("is the sky blue? yes", "the sky is blue"),
        ("is the sky blue? yes, i think so", "the sky is blue"),
        ("is the sky blue? no, it is grey", "the sky is grey"),
        ("is the sky blue? no", None),
        ("is it raining? yes", "it is raining"),
        ("is it raining? no, it is snowing", "it is snowing"),
        ("are there clouds? no, it is snowing", "it is snowing"),
        ("is there a cow? yes", "there is a cow"),
        ("is there an animal? yes, a white sheep", "there is a white sheep"),
        (
            "are there any trees? yes, two pine trees on the left",
            "there are two pine trees on the left",
        ),
        ("are there any vehicles? no", "there are no vehicles"),
        ("is there a vehicle? none that i can see", "there is no vehicle"),
        ("do you see any dogs? no, not really", None),
        ("is the picture in color? yes", None),
        ("what is the mood of the picture? calm", None),
        ("is the barn red? can't tell", None),
        ("what color is the sky? i think it is blue", "the sky is blue"),
        (
            "Can you tell me, what color is the sky that is shown in the picture? blue",
            "the sky is blue",
        ),
        ("What color is the roof? Answer: green green green", "the roof is green"),
        (
            "What color is the roof? Answer: red What color is the roof? Answer: red",
            "the roof is red",
        ),
        ("What color is the roof?", None),
        ("What color is the roof?\nAnswer: purple", "the roof is purple"),
        ("is she alone? yes", "she is alone"),
        ("what is the man wearing? a shirt", "the man wearing a shirt"),
    ],
)
def test_an_entry_becomes_a_phrase(entry, phrase):
    expected = "a house" if phrase is None else f"a house, {phrase}"
    assert rewrite(["a house", entry]) == expected


def test_nothing_is_said_twice():
    assert (
        rewrite(["a house", "is it raining? yes", "is it raining? yes"]) == "a house, it is raining"
    )


def test_a_caption_alone_stays_as_it_is():
    assert rewrite([" a house  on the left\n"]) == "a house on the left"
