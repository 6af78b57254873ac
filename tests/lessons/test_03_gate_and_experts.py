"""What 03_gate_and_experts builds by hand is the package's head,
and its exercises tell wrong answers apart."""

import pytest
import torch
import torch.nn.functional as F
from lesson_kit import definitions, try_exercises
from torch import nn

from adafuse_lite import fusion, train

NAME = "03_gate_and_experts"


@pytest.fixture(scope="module")
def lesson():
    return definitions(NAME)


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return F.normalize(torch.randn(7, 24), dim=-1), F.normalize(torch.randn(7, 24), dim=-1)


def heads(lesson, count=3, **options):
    """A packaged head with random weights everywhere, and the lesson's head with the same ones."""
    torch.manual_seed(1)
    packaged = fusion.AdaFuSE(24, projection_dim=16, hidden_dim=32, num_experts=count, **options)
    for weight in packaged.parameters():
        nn.init.normal_(weight, std=0.3)
    ours = lesson["Head"](24, 16, 32, count, **options)
    return lesson["take_over"](ours, packaged), packaged


def test_the_map_of_names_leaves_nothing_over(lesson):
    ours, packaged = heads(lesson, 5)
    names = lesson["packaged_names"](5)
    assert set(names) == set(ours.state_dict())
    assert sorted(names.values()) == sorted(packaged.state_dict())


@pytest.mark.parametrize("count", [1, 3, 4])
def test_the_head_is_the_packages_head(lesson, pair, count):
    ours, packaged = (head.eval() for head in heads(lesson, count))
    for a, b in zip(ours(*pair), packaged(*pair), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_the_gradients_are_the_packages_gradients(lesson, pair):
    ours, packaged = (head.eval() for head in heads(lesson))
    target = F.normalize(torch.randn(7, 24), dim=-1)
    inputs = [[x.clone().requires_grad_() for x in pair] for _ in range(2)]
    train.contrastive_loss(ours(*inputs[0])[0], target, ours.log_scale.exp()).backward()
    train.contrastive_loss(
        packaged(*inputs[1]).query, target, packaged.logit_scale.exp()
    ).backward()
    for a, b in lesson["packaged_names"](3).items():
        mine, theirs = ours.get_parameter(a).grad, packaged.get_parameter(b).grad
        assert theirs.abs().max() > 0, b
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)
    for a, b in zip(*inputs):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-4)


def dropped(head, pair):
    """The shapes of what a head's dropouts are given in a training step, in order."""
    shapes = []
    hooks = [
        module.register_forward_hook(lambda module, given, out: shapes.append(out.shape))
        for module in head.modules()
        if isinstance(module, nn.Dropout)
    ]
    head.train()(*pair)
    for hook in hooks:
        hook.remove()
    return shapes


def test_dropout_stands_in_the_same_places(lesson, pair):
    """Dropout of (almost) everything leaves the same nothing in both:
    gate one half's bias, no residual."""
    ours, packaged = heads(lesson, dropout=1.0)
    for a, b in zip(ours.train()(*pair), packaged.train()(*pair), strict=True):
        torch.testing.assert_close(a, b)
    assert dropped(ours, pair) == dropped(packaged, pair)
    # context twice, gate, experts K times and residual
    assert len(dropped(packaged, pair)) == 2 + 1 + packaged.num_experts + 1


@pytest.mark.parametrize("zero_init", [True, False])
def test_the_start_is_the_packages_start(lesson, pair, zero_init):
    torch.manual_seed(3)
    ours = lesson["Head"](24, 16, 32, zero_init=zero_init).eval()
    packaged = fusion.AdaFuSE(24, 16, 32, zero_init=zero_init).eval()
    for head, linear in ((ours, ours.experts.W_out), (packaged, packaged.output)):
        query, gate, _ = head(*pair)
        at_blend = torch.allclose(query, fusion.blend(*pair, gate), atol=1e-6)
        assert at_blend is zero_init and bool((linear.weight == 0).all()) is zero_init
        assert bool((linear.bias == 0).all()) is zero_init
    assert ours.log_scale.item() == packaged.logit_scale.item()


def test_the_bundled_head_fits_into_the_lessons_modules(lesson):
    packaged = fusion.AdaFuSE.from_pretrained("postcards")
    torch.manual_seed(2)
    pair = F.normalize(torch.randn(2, 9, packaged.feature_dim), dim=-1)
    ours = lesson["take_over"](lesson["Head"](packaged.feature_dim), packaged).eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(*pair)[0], packaged(*pair).query, atol=1e-5, rtol=1e-4)


def test_gelu_is_the_exact_one(lesson):
    x = torch.linspace(-6, 6, 1001, dtype=torch.float64)
    torch.testing.assert_close(lesson["gelu"](x), F.gelu(x))


def test_top_one_is_the_dense_sum_with_one_expert(lesson):
    torch.manual_seed(4)
    experts = lesson["Experts"](12, 16, 8, 4, dropout=0.0, zero_init=False)
    h = 3 * torch.randn(40, 12)
    p = experts.route(h)
    one_hot = F.one_hot(p.argmax(-1), 4).float()
    assert len(p.argmax(-1).unique()) > 1
    torch.testing.assert_close(lesson["top_one"](experts, h), experts(h, one_hot)[0])
    scaled = experts(h, one_hot * p)[0]
    torch.testing.assert_close(lesson["top_one"](experts, h, scale=True), scaled)


def test_spearman_is_scipys(lesson):
    from scipy.stats import spearmanr

    torch.manual_seed(5)
    a, b = torch.randn(60, 3), torch.randn(60, 3)
    b[:, 1] += a[:, 1]
    found = lesson["rank_products"](a, b).mean(dim=0)
    for r in range(3):
        assert found[r].item() == pytest.approx(
            spearmanr(a[:, r].numpy(), b[:, r].numpy())[0], abs=1e-6
        )


def test_exercises(lesson):
    gelu, sigmoid = F.gelu, torch.sigmoid
    layer = lambda a, b: a * b + b

    def size(K, d=256, p=512, m=2048, layer=layer, one=1, outputs=1):
        gate = layer(2 * p, m) + layer(m, 1)
        router = layer(2 * p, m // 4) + layer(m // 4, K)
        return 2 * layer(d, p) + gate + router + K * layer(2 * p, m) + outputs * layer(m, d) + one

    def top(routing, k, largest=True):
        values, places = routing.topk(k, dim=-1, largest=largest)
        return torch.zeros_like(routing).scatter(-1, places, values)

    try_exercises(
        NAME,
        {
            "gate": [
                lambda h, W1, b1, W2, b2: gelu(h @ W1.T + b1) @ W2.T + b2,  # no sigmoid
                lambda h, W1, b1, W2, b2: (
                    1 - sigmoid(gelu(h @ W1.T + b1) @ W2.T + b2)
                ),  # of the drawing
                lambda h, W1, b1, W2, b2: sigmoid((h @ W1.T + b1) @ W2.T + b2),  # no GELU
                lambda h, W1, b1, W2, b2: sigmoid(gelu(h @ W1 + b1) @ W2 + b2),  # not transposed
                lambda h, W1, b1, W2, b2: sigmoid(gelu(h @ W1.T + b1) @ W2.T + b2)[:, 0],  # [n]
            ],
            "head_size": [
                lambda K, d=256, p=512, m=2048: size(K, d, p, m, one=0),  # no temperature
                lambda K, d=256, p=512, m=2048: size(
                    K, d, p, m, layer=lambda a, b: a * b
                ),  # no biases
                lambda K, d=256, p=512, m=2048: size(K, d, p, m, outputs=K),  # an output each
                lambda K, d=256, p=512, m=2048: size(4, d, p, m),  # always four experts
            ],
            "keep_best": [
                lambda p, k: top(p, k),  # does not sum to one
                lambda p, k: (
                    top(p, k, largest=False) / top(p, k, largest=False).sum(-1, keepdim=True)
                ),
                lambda p, k: p.topk(k, dim=-1).values,  # another shape
                lambda p, k: (
                    (top(p, k) / 0.2).masked_fill(top(p, k) == 0, -torch.inf).softmax(dim=-1)
                ),  # a second softmax
            ],
        },
    )
    assert lesson["count"](lesson["Head"](256, 512, 2048, 4)) == size(4) == 11_812_614
