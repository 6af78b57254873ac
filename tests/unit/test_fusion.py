"""The head against the reference outputs,
the baselines against their formulas, and what they refuse."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from toy_bank import toy_bank

from adafuse_lite import (
    DAR,
    AdaFuSE,
    CosineGate,
    ExpertsOnly,
    FixedWeight,
    GateOnly,
    ImageOnly,
    InputError,
    StandardisedSum,
    TextOnly,
    fusion,
)

SMALL = dict(feature_dim=12, projection_dim=8, hidden_dim=16)


def pair(n=5, d=12, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [F.normalize(torch.randn(n, d, generator=g), dim=-1) for _ in range(2)]


# --- the head -------------------------------------------------------------------------------------


def test_published_size():
    with torch.device("meta"):
        head = AdaFuSE(256)
    assert sum(p.numel() for p in head.parameters()) == 11_812_614
    assert sum(isinstance(m, torch.nn.Dropout) for m in head.gate) == 1


def test_zero_init_starts_from_the_plain_blend():
    text, image = pair()
    fused = AdaFuSE(**SMALL).eval()(text, image)
    assert torch.allclose(
        fused.query, F.normalize(fused.gate * text + (1 - fused.gate) * image, dim=-1)
    )
    published = AdaFuSE(**SMALL, zero_init=False).eval()(text, image)
    plain = F.normalize(published.gate * text + (1 - published.gate) * image, dim=-1)
    assert (published.query - plain).norm(dim=-1).min() > 0.01


@pytest.mark.parametrize("head", [AdaFuSE, GateOnly, ExpertsOnly, CosineGate])
def test_every_parameter_gets_a_gradient(head):
    torch.manual_seed(0)
    model = head() if head is CosineGate else head(**SMALL, zero_init=False)
    fused = model(*pair())
    scale = model.logit_scale.exp() if hasattr(model, "logit_scale") else 50
    F.cross_entropy(scale * fused.query @ pair(seed=1)[0].T, torch.arange(5)).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.abs().sum() > 0, name


def test_ablations_lack_the_other_part():
    text, image = pair()
    gate_only, experts_only = GateOnly(**SMALL).eval(), ExpertsOnly(**SMALL, zero_init=False).eval()
    assert gate_only(text, image).routing.shape == (5, 0) and not hasattr(gate_only, "experts")
    assert gate_only(text, image).gate.std() > 0
    assert experts_only(text, image).gate.std() == 0 and not hasattr(experts_only, "gate")


# --- baselines ------------------------------------------------------------------------------------


def test_fixed_weights_follow_their_formulas():
    text, image = pair()
    for model, round, w in [
        (TextOnly(), 0, 1),
        (ImageOnly(), 3, 0),
        (FixedWeight(0.3), None, 0.3),
        (FixedWeight([0.9, 0.2]), -1, 0.9),
        (FixedWeight([0.9, 0.2]), 0, 0.9),
        (FixedWeight([0.9, 0.2]), 1, 0.2),
        (FixedWeight([0.9, 0.2]), 7, 0.2),
        (DAR(), 0, 0.8),
        (DAR(), 1, 0.8),
        (DAR(), 2, 0.5),
        (DAR(), 10, 0.5),
    ]:
        fused = model(text, image, round)
        assert torch.allclose(
            fused.query, F.normalize(w * text + (1 - w) * image, dim=-1), atol=1e-6
        )
        assert torch.allclose(fused.gate, torch.full((5, 1), float(w))) and fused.routing.shape == (
            5,
            0,
        )


def test_rounds_may_differ_within_a_batch():
    gate = DAR()(*pair(), round=torch.tensor([0, 1, 2, 3, 10])).gate
    assert torch.allclose(gate[:, 0], torch.tensor([0.8, 0.8, 0.5, 0.5, 0.5]))


def test_standardised_sum_ranks_as_its_definition():
    bank = toy_bank(seed=3)
    model = StandardisedSum.fit_to(bank)
    scores = [x.flatten(0, 1) @ bank.corpus.T for x in (bank.text, bank.generated)]
    spreads = [s.std(1, correction=0).mean() for s in scores]
    assert torch.allclose(
        torch.tensor([model.text_spread, model.image_spread]), torch.stack(spreads), rtol=1e-4
    )
    query = model(bank.text[:, 0], bank.generated[:, 0]).query
    wanted = sum(x[:, 0] @ bank.corpus.T / s for x, s in zip((bank.text, bank.generated), spreads))
    got = query @ bank.corpus.T
    assert all(torch.corrcoef(torch.stack(rows))[0, 1] > 0.99999 for rows in zip(got, wanted))


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [AdaFuSE(**SMALL), DAR(), CosineGate()])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, i: (t, i[:3]), "differ in shape"),
        (lambda t, i: (t[0], i), "not a tensor"),
        (lambda t, i: (t, i.tolist()), "not a tensor"),
    ],
)
def test_unfit_features_are_refused(model, change, message):
    with pytest.raises(InputError, match=message):
        model(*change(*pair()), 0)


def test_other_widths_and_other_encoders_are_refused():
    head = AdaFuSE(**SMALL, encoder_hash="aaa")
    with pytest.raises(InputError, match="10 wide and this head takes 12"):
        head(*pair(d=10))
    head.check_encoder("aaa")
    with pytest.raises(InputError, match="trained on features of encoder aaa, these are of bbb"):
        head.check_encoder("bbb")
    AdaFuSE(**SMALL).check_encoder("bbb")


def test_unfit_weights_and_rounds_are_refused():
    for weight in (1.5, [0.5, -0.1], float("nan"), []):
        with pytest.raises(InputError, match="between 0 and 1"):
            FixedWeight(weight)
    for model in (DAR(), FixedWeight([0.9, 0.2])):
        with pytest.raises(InputError, match="round="):
            model(*pair())
    with pytest.raises(InputError, match="2 rounds for 5 queries"):
        DAR()(*pair(), round=torch.tensor([0, 1]))


def test_the_offset_is_that_of_drawings_and_their_targets():
    bank = toy_bank()
    drawings, targets = bank.generated.reshape(-1, 12), bank.corpus[bank.target]
    by_hand = [drawings[:, i].mean() - targets[:, i].mean() for i in range(12)]
    torch.testing.assert_close(fusion.OffsetRemoved.measure(bank), torch.stack(by_hand))


def test_offset_removed_undoes_a_common_offset():
    bank = toy_bank()
    offset = F.normalize(torch.ones(12), dim=0)
    moved = SimpleNamespace(**{**vars(bank), "generated": bank.generated + 0.5 * offset})
    measured = fusion.OffsetRemoved.measure(moved) - fusion.OffsetRemoved.measure(bank)
    torch.testing.assert_close(measured, 0.5 * offset)
    text, image = bank.text[:, 0], bank.generated[:, 0]
    clean = fusion.OffsetRemoved(fusion.DAR(), 0.5 * offset)(text, image + 0.5 * offset, round=2)
    torch.testing.assert_close(clean.query, fusion.DAR()(text, image, round=2).query)
    with pytest.raises(InputError, match="wide"):
        fusion.OffsetRemoved(fusion.DAR(), torch.zeros(5))(text, image, round=2)


def test_the_cosine_gate_by_hand():
    text, image = (F.normalize(torch.randn(5, 12), dim=1) for _ in range(2))
    gate = CosineGate()
    with torch.no_grad():
        gate.slope.fill_(0.3)
        gate.offset.fill_(-0.2)
        wanted = 1 / (1 + torch.exp(-10 * (0.3 * (text * image).sum(1) - 0.2)))
        torch.testing.assert_close(gate(text, image).gate[:, 0], wanted)


def test_a_head_starts_at_the_published_temperature():
    assert AdaFuSE(**SMALL).logit_scale.exp().item() == pytest.approx(50)


@pytest.mark.parametrize("dropout", [-0.1, 1.1, float("nan")])
def test_dropout_is_a_share(dropout):
    with pytest.raises(InputError, match="from 0 to 1"):
        AdaFuSE(**SMALL, dropout=dropout)
