"""What A1_tiny_clip defines by hand is what the training of the encoder computes."""

import random

import pytest
import torch
import torch.nn.functional as F
from lesson_kit import definitions, try_exercises

from adafuse_lite import metrics, search
from adafuse_lite.postcards import pretrain, world


@pytest.fixture(scope="module")
def a1():
    return definitions("A1_tiny_clip")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return pretrain.train_tokenizer(tmp_path_factory.mktemp("tokenizer"), count=200)


@pytest.fixture(scope="module")
def some():
    scenes = world.scenes("models", 12)
    return scenes, pretrain.pictures(scenes)


@pytest.mark.parametrize("scale", [0.0, 1.0, 14.3, 100.0])
def test_contrastive_loss_of_a1_is_two_cross_entropies(a1, scale):
    torch.manual_seed(0)
    images, texts = F.normalize(torch.randn(2, 20, 96), dim=-1)
    scores, pair = scale * images @ texts.T, torch.arange(20)
    wanted = (F.cross_entropy(scores, pair) + F.cross_entropy(scores.T, pair)) / 2
    torch.testing.assert_close(a1["contrastive_loss"](images, texts, scale), wanted)


def test_training_of_the_encoder_uses_the_loss_of_a1(a1, caught, tokenizer, some, tmp_path):
    scenes, pixels = some
    pretrain.train_encoder(tmp_path, tokenizer, scenes, pixels, batch=8)
    model = caught["model"].eval()
    value, more = caught["loss"](0, random.Random(5))

    rng = random.Random(5)
    chosen = rng.sample(range(len(scenes)), 8)
    texts = [pretrain.short_caption(scenes[i], rng) for i in chosen]
    tokens = tokenizer(texts, padding="max_length", max_length=77, return_tensors="pt").input_ids
    images = model.encode_image(pixels[chosen].float() / 127.5 - 1, normalize=True)
    texts = model.encode_text(tokens, normalize=True)
    wanted = a1["contrastive_loss"](images, texts, model.logit_scale.exp())
    torch.testing.assert_close(value, wanted, atol=1e-4, rtol=1e-4)
    assert 0 <= more["accuracy"] <= 1


def test_share_found_in_ten_of_a1_is_recall(a1):
    torch.manual_seed(0)
    queries, pictures = F.normalize(torch.randn(2, 60, 8), dim=-1)
    found = search.ranks(queries, pictures, torch.arange(60))[:, None]
    assert a1["found_in_ten"](queries, pictures) == pytest.approx(metrics.recall_at_k(found).item())


def test_exercise_of_a1():
    def sum_of_all(encoder, wordings):
        return encoder.encode_text(wordings).sum(0)

    def mean_only(encoder, wordings):
        return encoder.encode_text(wordings).mean(0)

    def all_of_them(encoder, wordings):
        return encoder.encode_text(wordings)

    def over_the_width(encoder, wordings):
        return F.normalize(encoder.encode_text(wordings).mean(1), dim=0)

    def last(encoder, wordings):
        return encoder.encode_text(wordings)[-1]

    def only_two(encoder, wordings):
        return F.normalize(encoder.encode_text(wordings[:2]).mean(0), dim=0)

    def nothing(encoder, wordings):
        return None

    wrong = [sum_of_all, mean_only, all_of_them, over_the_width, last, only_two, nothing]
    try_exercises("A1_tiny_clip", {"averaged": wrong})
    check = definitions("A1_tiny_clip")["check_averaged"]
    assert len({check(answer) for answer in (mean_only, all_of_them, last)}) == 3
