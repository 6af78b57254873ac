"""Laws that hold for any input: ranks, metrics, fusions, and what is saved and loaded."""

import tempfile

import pytest
import torch
import torch.nn.functional as F
from hard_kit import content, weights
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_bank import toy_bank

from adafuse_lite import (
    DAR,
    AdaFuSE,
    CosineGate,
    ExpertsOnly,
    FeatureBank,
    FixedWeight,
    GateOnly,
    InputError,
    OffsetRemoved,
    StandardisedSum,
    bri,
    degradation,
    fit,
    hits_at_k,
    mrr,
    rank_table,
    ranks,
    recall_at_k,
    seed_everything,
)

quick = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**31)
bad = st.sampled_from([float("nan"), float("inf"), -float("inf")])


def loop(queries, corpus, target, ties):
    """Ranks by going through the pictures one by one."""
    found = []
    for q, t in zip(queries.double(), target.tolist()):
        own, place = float(q @ corpus[t].double()), 0
        for i, picture in enumerate(corpus.double()):
            score = float(q @ picture)
            place += score > own or (ties == "pessimistic" and score == own and i != t)
        found.append(place)
    return found


@st.composite
def problems(draw):
    """Queries and a corpus of small whole numbers (scores are exact),
    with doubled pictures, in float32 or float16."""
    n, pictures, width = draw(st.integers(1, 7)), draw(st.integers(1, 25)), draw(st.integers(1, 5))
    g = torch.Generator().manual_seed(draw(seeds))
    q, c = (
        torch.randint(-2, 3, (n, width), generator=g),
        torch.randint(-2, 3, (pictures, width), generator=g),
    )
    c = torch.cat([c, c[: draw(st.integers(0, pictures))]])
    t = torch.randint(0, len(c), (n,), generator=g)
    types = st.sampled_from([torch.float32, torch.float16, torch.bfloat16])
    return q.to(draw(types)), c.to(draw(types)), t


# --- ranks ----------------------------------------------------------------------------------------
@quick
@given(problems(), st.sampled_from(["optimistic", "pessimistic"]))
def test_ranks_are_those_of_a_naive_loop(problem, ties):
    """tried: ties, doubled pictures, float16 and bfloat16;
    promised: the ranks of a loop over pictures, exactly."""
    assert ranks(*problem, ties).tolist() == loop(*problem, ties)


@quick
@given(problems())
def test_a_doubled_picture_costs_pessimists_one_place(problem):
    """tried: the target's picture once more in the corpus;
    promised: optimistic ranks stay, pessimistic ones rise by one."""
    q, c, t = problem[0][:1], problem[1], problem[2][:1]
    more = torch.cat([c, c[t]])
    assert torch.equal(ranks(q, c, t), ranks(q, more, t))
    assert torch.equal(ranks(q, c, t, "pessimistic") + 1, ranks(q, more, t, "pessimistic"))


@quick
@given(problems(), bad, st.booleans(), seeds)
def test_one_number_that_is_none_is_refused(problem, value, in_corpus, seed):
    """tried: one NaN or infinity anywhere in queries or corpus; promised: InputError, no rank."""
    q, c, t = (x.clone() for x in problem)
    damaged = c if in_corpus else q
    damaged.view(-1)[seed % damaged.numel()] = value
    with pytest.raises(InputError, match="not finite"):
        ranks(q, c, t)


@quick
@given(problems(), seeds)
def test_the_order_of_corpus_and_queries_changes_nothing(problem, seed):
    """tried: corpus and queries permuted, targets mapped;
    promised: the same ranks, permuted as the queries were."""
    q, c, t = problem
    g = torch.Generator().manual_seed(seed)
    pictures, queries = torch.randperm(len(c), generator=g), torch.randperm(len(q), generator=g)
    moved = ranks(q[queries], c[pictures], pictures.argsort()[t][queries])
    assert torch.equal(moved, ranks(q, c, t)[queries])


# --- metrics --------------------------------------------------------------------------------------
@st.composite
def tables(draw):
    q, r, top = (
        draw(st.integers(1, 12)),
        draw(st.integers(1, 11)),
        draw(st.sampled_from([1, 2, 30, 50_000])),
    )
    return torch.randint(0, top, (q, r), generator=torch.Generator().manual_seed(draw(seeds))), top


@quick
@given(tables(), st.integers(1, 60), seeds)
def test_laws_of_the_metrics(given, k, seed):
    """tried: any table of ranks;
    promised: Hits never fall and are never below Recall, all within bounds, order of dialogues no
    matter."""
    table, top = given
    hits, recall, inverse, integral = (
        hits_at_k(table, k),
        recall_at_k(table, k),
        mrr(table),
        bri(table),
    )
    tiny = 1e-12
    assert (hits.diff() >= -tiny).all() and (hits >= recall - tiny).all() and hits[0] == recall[0]
    for x in (hits, recall):
        assert (x >= 0).all() and (x <= 1 + tiny).all()
    assert (inverse <= 1 + tiny).all() and (inverse >= 1 / top - tiny).all()
    limit = torch.tensor(float(top), dtype=torch.double).log() + 1e-9
    assert (
        (integral >= -tiny).all()
        and (integral <= limit).all()
        and (integral.diff()[1:] <= tiny).all()
    )
    assert (hits_at_k(table, k + 1) >= hits - tiny).all() and (
        recall_at_k(table, k + 1) >= recall - tiny
    ).all()
    assert (recall_at_k(table, top) == 1).all()
    moved = table[torch.randperm(len(table), generator=torch.Generator().manual_seed(seed))]
    for metric in (hits_at_k, recall_at_k, mrr, bri):
        torch.testing.assert_close(metric(moved), metric(table), rtol=0, atol=1e-12)


@quick
@given(tables(), seeds)
def test_degradation_is_a_split(given, seed):
    """tried: any two tables of ranks;
    promised: worse + equal + better = 1, and exchanging the two exchanges worse and better."""
    a, top = given
    b = torch.randint(0, top, a.shape, generator=torch.Generator().manual_seed(seed))
    one, other = degradation(a, b), degradation(b, a)
    torch.testing.assert_close(
        one.worse + one.equal + one.better, torch.ones(a.shape[1], dtype=torch.double)
    )
    assert torch.equal(one.worse, other.better) and torch.equal(one.mean_change, -other.mean_change)


def test_a_bank_permuted_gives_the_same_metrics():
    """tried: a bank's corpus and dialogues permuted;
    promised: a head ranks every dialogue as before."""
    bank, head = toy_bank(), CosineGate()
    g = torch.Generator().manual_seed(1)
    pictures, queries = torch.randperm(200, generator=g), torch.randperm(60, generator=g)
    moved = toy_bank()
    for name in ("text", "prompt", "generated"):
        setattr(moved, name, getattr(bank, name)[queries])
    moved.corpus, moved.target = bank.corpus[pictures], pictures.argsort()[bank.target][queries]
    assert torch.equal(rank_table(head, moved), rank_table(head, bank)[queries])


# --- fusions --------------------------------------------------------------------------------------
SMALL = dict(feature_dim=12, projection_dim=8, hidden_dim=16)


def fusions():
    torch.manual_seed(0)
    cosine = CosineGate()
    with torch.no_grad():
        cosine.slope.fill_(0.7)
        cosine.offset.fill_(-0.3)
    offset = F.normalize(torch.randn(12), dim=0) * 0.4
    return [
        AdaFuSE(**SMALL),
        AdaFuSE(**SMALL, zero_init=False, num_experts=7),
        GateOnly(**SMALL),
        ExpertsOnly(**SMALL, zero_init=False),
        FixedWeight(0.35),
        FixedWeight([0.9, 0.1]),
        DAR(),
        StandardisedSum(0.3, 0.1),
        cosine,
        OffsetRemoved(DAR(), offset),
        OffsetRemoved(AdaFuSE(**SMALL, zero_init=False), offset),
    ]


@pytest.mark.parametrize("model", fusions(), ids=lambda m: type(m).__name__)
@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 9),
    seeds,
    st.sampled_from(["any", "equal", "one hot"]),
    st.integers(0, 20),
    st.booleans(),
)
def test_every_fusion_gives_unit_queries(model, n, seed, kind, round, training):
    """tried: eleven fusions, any unit vectors, in training and not;
    promised: unit length, gate in 0..1, routing sums to 1."""
    g = torch.Generator().manual_seed(seed)
    text, image = (F.normalize(torch.randn(n, 12, generator=g), dim=-1) for _ in range(2))
    if kind == "equal":
        image = text.clone()
    elif kind == "one hot":
        text = F.one_hot(torch.randint(0, 12, (n,), generator=g), 12)
        image = F.one_hot(torch.randint(0, 12, (n,), generator=g), 12)
    with torch.no_grad():
        fused = model.train(training)(text, image, round=round)
    assert fused.query.shape == (n, 12) and fused.query.dtype == torch.float32
    torch.testing.assert_close(fused.query.norm(dim=1), torch.ones(n))
    assert fused.gate.shape == (n, 1) and (fused.gate >= 0).all() and (fused.gate <= 1).all()
    assert len(fused.routing) == n and (fused.routing >= 0).all()
    if fused.routing.shape[1]:
        torch.testing.assert_close(fused.routing.sum(1), torch.ones(n))


# --- saved and loaded -----------------------------------------------------------------------------
@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from([AdaFuSE, GateOnly, ExpertsOnly]),
    st.integers(1, 20),
    st.integers(1, 9),
    st.integers(4, 20),
    st.integers(1, 5),
    seeds,
    st.one_of(st.none(), st.text(max_size=20)),
)
def test_a_head_read_back_is_the_head(kind, width, projection, hidden, experts, seed, about):
    """tried: heads of any size, any words on their card;
    promised: the same weights to the bit, sizes, hash and words."""
    torch.manual_seed(seed)
    head = kind(width, projection, hidden, experts, encoder_hash=f"hash{seed}", trained_on=about)
    with torch.no_grad():
        for p in head.parameters():
            p.normal_()
    with tempfile.TemporaryDirectory() as folder:
        head.save_pretrained(folder)
        again = kind.from_pretrained(folder)
    assert weights(again) == weights(head) and not again.training
    assert (again.feature_dim, again.num_experts, again.encoder_hash, again.trained_on) == (
        width,
        experts,
        f"hash{seed}",
        about,
    )
    assert not any(p.requires_grad or p.device.type != "cpu" for p in again.parameters())


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(1, 9),
    st.integers(1, 12),
    seeds,
    st.booleans(),
    st.booleans(),
)
def test_a_bank_read_back_is_the_bank(q, r, d, n, seed, repeated, readings):
    """tried: banks of any size, repeated rows, -0.0 among the numbers;
    promised: the same to the bit (features are float16)."""
    g = torch.Generator().manual_seed(seed)
    make = lambda *shape: torch.randn(*shape, generator=g).half().float()
    text = make(q, r, d)
    text.view(-1)[0] = -0.0
    bank = FeatureBank(
        text=text,
        prompt=text[:, :1].expand(q, r, d).clone() if repeated else make(q, r, d),
        generated=make(q, r, d),
        target=torch.randint(0, n, (q,), generator=g),
        corpus=make(n, d),
        cut=torch.rand(q, r, generator=g) < 0.5,
        prompt_cut=torch.rand(q, r, generator=g) < 0.5,
        seeds=torch.randint(0, 2**62, (q,), generator=g),
        readings=torch.randint(0, 9, (q, r, 18), generator=g).byte() if readings else None,
        meta={"style": "é", "settings": {"steps": seed}},
    )
    with tempfile.TemporaryDirectory() as folder:
        bank.save(folder)
        assert content(FeatureBank.load(folder)) == content(bank)


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 3), seeds, st.sampled_from([AdaFuSE, CosineGate, GateOnly]))
def test_a_training_checkpoint_read_back_goes_on_as_if_never_stored(stop, seed, kind):
    """tried: training broken off after any epoch, resumed by another model object;
    promised: same weights and history to the bit."""
    bank, validation = toy_bank(48, seed=seed % 99), toy_bank(20, seed=5)
    make = lambda: (seed_everything(seed), kind() if kind is CosineGate else kind(**SMALL))[1]
    options = dict(batch_size=16, device="cpu", progress=False, seed=seed)

    class Stop(BaseException):
        pass

    def stopping(model):
        calls = []

        def hook(module, *_):
            if module.training:  # not while validation is ranked
                calls.append(1)
                if len(calls) > 3 * stop:
                    raise Stop

        model.register_forward_pre_hook(hook)
        return model

    whole = make()
    wanted = fit(whole, bank, validation, epochs=4, **options)
    with tempfile.TemporaryDirectory() as folder:
        with pytest.raises(Stop):
            fit(
                stopping(make()),
                bank,
                validation,
                epochs=4,
                checkpoint=f"{folder}/c.safetensors",
                **options,
            )
        seed_everything(seed + 1)
        again = kind() if kind is CosineGate else kind(**SMALL)
        assert (
            fit(again, bank, validation, epochs=4, checkpoint=f"{folder}/c.safetensors", **options)
            == wanted
        )
    assert weights(again) == weights(whole)
