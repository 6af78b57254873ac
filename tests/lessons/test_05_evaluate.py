"""05_evaluate: what it builds by hand is what the package does,
its exercises work, and the study behind it is sound."""

import math
import random
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from lesson_kit import definitions, exercises, try_exercises
from scipy import stats
from toy_bank import toy_bank

from adafuse_lite import InputError, device, fusion, metrics, search, train
from adafuse_lite.files import write_tensors
from adafuse_lite.postcards import study

BAND = 0.03  # Recall@10 at each round, trained again against stored


@pytest.fixture(scope="module")
def lesson():
    """What 05_evaluate defines, by name."""
    return definitions("05_evaluate")


# --- by hand and packaged -------------------------------------------------------------------------
def test_mrr_and_bri_are_the_packages(lesson):
    ranks = torch.randint(300, (50, 11), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(lesson["mrr_by_hand"](ranks), metrics.mrr(ranks))
    solution = next(code for name, _, code in exercises("05_evaluate") if name == "bri_by_hand")
    names = dict(lesson)
    exec(solution, names)
    for rounds in (2, 5, 11):
        torch.testing.assert_close(
            names["bri_by_hand"](ranks[:, :rounds]), metrics.bri(ranks[:, :rounds])[-1]
        )


def test_the_paired_bootstrap_is_the_packages(lesson):
    g = torch.Generator().manual_seed(1)
    a, b = (torch.randint(40, (80, 3), generator=g) for _ in range(2))
    for resamples, level in ((200, 0.95), (77, 0.8)):
        packaged = metrics.paired_difference(a, b, resamples=resamples, level=level)
        for r in range(3):
            ours = lesson["paired_bootstrap"](
                (a < 10).double()[:, r], (b < 10).double()[:, r], resamples, level
            )
            torch.testing.assert_close(torch.stack(ours), torch.stack([x[r] for x in packaged]))


def test_words_say_on_which_side_of_zero(lesson):
    word = lesson["word"]
    assert (word(0.1, 0.2), word(-0.2, -0.1)) == ("above zero", "below zero")
    assert word(-0.1, 0.2) == word(0.0, 0.2) == word(-0.1, 0.0) == "not told apart"


def test_the_mean_of_a_group_is_that_of_the_package(lesson):
    values = torch.rand(60, 4, generator=torch.Generator().manual_seed(2)).double()
    mean, drawn = lesson["group_means"](values, torch.ones(60, 4, dtype=torch.bool), 300)
    packaged = metrics.bootstrap(values.mean(1, keepdim=True), 300)
    torch.testing.assert_close(
        torch.stack([mean, drawn.quantile(0.025), drawn.quantile(0.975)]),
        torch.stack([x[0] for x in packaged]),
    )
    group = values > 0.5
    assert float(lesson["group_means"](values, group, 10)[0]) == pytest.approx(
        float(values[group].mean())
    )


def test_the_tuned_weights_are_the_packages(lesson):
    bank, names = toy_bank(), dict(lesson, device="cpu")
    tuned = lesson["tuned_weights"]
    tuned.__globals__["device"] = names["device"]
    one, each = tuned(bank, torch.linspace(0, 1, 21))
    torch.testing.assert_close(one.reshape(1), train.tune_fixed_weight(bank).weights)
    torch.testing.assert_close(each, train.tune_fixed_weight(bank, per_round=True).weights)


def test_spearman_is_scipys(lesson):
    g = torch.Generator().manual_seed(3)
    x, y = (
        torch.rand(5, 90, generator=g),
        torch.randint(6, (5, 90), generator=g).float(),
    )  # the second has many ties
    ours = lesson["spearman"](x, y)
    for row in range(5):
        assert float(ours[row]) == pytest.approx(
            stats.spearmanr(x[row], y[row]).statistic, abs=1e-9
        )
    columns = lesson["spearman"](x.T.contiguous().T, y)
    torch.testing.assert_close(columns, ours)
    torch.testing.assert_close(
        lesson["places"](y[0]) + 0.5, torch.from_numpy(stats.rankdata(y[0].double()))
    )


def test_information_is_the_sum_of_entropies(lesson):
    g = torch.Generator().manual_seed(4)
    pairs = torch.randint(30, (3, 4, 5), generator=g).double()
    for found, table in zip(lesson["information"](pairs), pairs.numpy()):
        entropy = lambda counts: stats.entropy(counts.ravel(), base=2)
        assert float(found) == pytest.approx(
            entropy(table.sum(0)) + entropy(table.sum(1)) - entropy(table), abs=1e-9
        )
    expert, label = (F.one_hot(torch.randint(3, (40,), generator=g)).double() for _ in range(2))
    shuffles = torch.stack([torch.randperm(40, generator=g) for _ in range(6)])
    own, chance = lesson["against_chance"](expert, {"one": label, "same": expert}, shuffles)["one"]
    assert float(own) == pytest.approx(float(lesson["information"](expert.T @ label)))
    torch.testing.assert_close(chance[2], lesson["information"](expert[shuffles[2]].T @ label))


def test_the_favoured_expert_is_named_against_its_usual_share(lesson):
    routing = torch.tensor(
        [[[0.9, 0.1], [0.8, 0.2]], [[0.9, 0.1], [0.6, 0.4]]]
    )  # the first is always ahead
    assert lesson["favoured"](routing).argmax(-1).tolist() == [[0, 0], [0, 1]]


def test_exercises():
    log = lambda ranks: ranks.double().add(1).log()
    trapezoid = lambda curve: ((curve[:, :-1] + curve[:, 1:]) / 2).mean()
    not_so_far = lambda ranks: trapezoid(log(ranks))
    plain_mean = lambda ranks: log(ranks.cummin(1).values).mean()
    from_zero = lambda ranks: trapezoid(ranks.cummin(1).values.double().clamp(min=1e-3).log())
    swapped = lambda found: (found.mean(0).std() / found.shape[1] ** 0.5, found.mean(1).std())
    no_root = lambda found: (found.mean(1).std(), found.mean(0).std())
    not_averaged = lambda found: (found.std(), found.mean(0).std() / found.shape[1] ** 0.5)

    def information(a, b, log=torch.log2, joint=True):
        p = F.one_hot(a).double().T @ F.one_hot(b).double() / len(a)
        entropy = lambda p: -(p[p > 0] * log(p[p > 0])).sum()
        return entropy(p.sum(0)) + entropy(p.sum(1)) - (entropy(p) if joint else 0)

    log_of_zero = lambda a, b: (lambda p: (p * (p / (p.sum(0) * p.sum(1)[:, None])).log2()).sum())(
        F.one_hot(a).double().T @ F.one_hot(b).double() / len(a)
    )
    nats = lambda a, b: information(a, b, torch.log)
    try_exercises(
        "05_evaluate",
        {
            "bri_by_hand": [not_so_far, plain_mean, from_zero],
            "two_spreads": [swapped, no_root, not_averaged],
            "mutual_information": [nats, log_of_zero, lambda a, b: information(a, b, joint=False)],
        },
    )


# --- the study ------------------------------------------------------------------------------------
@pytest.fixture
def small(monkeypatch):
    """Banks of the study, made up, 24 wide;
    with them and short trainings the study runs in seconds."""

    class Banks(study.Banks):
        def __missing__(self, name):
            place = [*study.STYLES, "train", "picking"].index(name.partition("/")[0])
            bank = toy_bank(width=24, seed=place)
            bank.meta, bank.other = {"texts": name}, bank.generated.roll(1, 0)
            bank.without_offset = bank.generated
            if "/" in name:
                bank.generated = bank.generated.roll(2, 0)
            self[name] = bank
            return bank

    monkeypatch.setattr(study, "SETTINGS", {"epochs": 2, "batch_size": 16, "lr": 2e-3})
    monkeypatch.setattr(study, "SIZES", {"projection_dim": 16, "hidden_dim": 32})
    return Banks()


def trained_parameters(name, dim=96):
    return sum(p.numel() for p in study.variants(dim)[name][0]().parameters() if p.requires_grad)


@pytest.mark.parametrize("name", ["PlainMLP", "WideExpert"])
def test_controls_have_as_many_parameters_as_the_head(name):
    assert trained_parameters(name) == pytest.approx(trained_parameters("AdaFuSE"), rel=0.06)


def test_every_variant_gives_unit_queries_and_a_gradient():
    torch.manual_seed(0)
    text, image = (F.normalize(torch.randn(6, 96), dim=-1) for _ in range(2))
    for name, (make, fields) in study.variants(96).items():
        fused = make()(text, image, round=0)
        torch.testing.assert_close(fused.query.norm(dim=-1), torch.ones(6))
        assert fused.gate.shape == (6, 1) and fields.keys() == {"text", "image"}, name
        assert fused.query.sum().requires_grad, name


def test_uniform_routing_stays_uniform_when_trained(small):
    bank = small["train"]
    device.seed_everything(0)
    model = study.UniformRouting(24, **study.SIZES)
    before = [p.clone() for p in model.experts.parameters()]
    train.fit(model, bank, bank, epochs=1, batch_size=16, lr=1e-2, device="cpu", progress=False)
    routing = model(bank.text[:, 0], bank.generated[:, 0]).routing
    torch.testing.assert_close(routing, torch.full_like(routing, 0.25))
    assert any(not torch.equal(a, b) for a, b in zip(before, model.experts.parameters())), (
        "its experts do learn"
    )


def test_a_wide_expert_starts_at_the_blend_and_has_nothing_to_route():
    torch.manual_seed(0)
    text, image = (F.normalize(torch.randn(6, 24), dim=-1) for _ in range(2))
    model = study.WideExpert(24, 40, 16, 32).eval()
    query, gate, routing = model(text, image)
    torch.testing.assert_close(query, fusion.blend(text, image, gate))
    torch.testing.assert_close(routing, torch.ones(6, 1))


def bundled(queries=3):
    return study.load_bank("postcards", "visdial", "validation").limit(queries)


def test_the_banks_of_the_study_have_two_fields_more():
    banks = study.Banks()
    test, picking = banks["human_blip2"], banks["picking"]
    assert (
        banks["human_blip2"] is test and len(picking.corpus) == 3000 and len(picking.target) == 300
    )
    assert torch.equal(test.other, test.generated.roll(1, 0))
    offset = fusion.OffsetRemoved.measure(banks["train"])
    removed = fusion.OffsetRemoved(fusion.ImageOnly(), offset)(
        test.text[:, 3], test.generated[:, 3]
    ).query
    torch.testing.assert_close(test.without_offset[:, 3], removed)
    assert torch.equal(
        banks["visdial/missing"].generated, torch.zeros_like(banks["visdial/missing"].generated)
    )
    assert len(banks["visdial/again1"].target) == study.NOISY


def test_an_unknown_variant_is_told(small, monkeypatch, capsys):
    monkeypatch.setattr(study, "Banks", lambda: small)
    with pytest.raises(SystemExit):
        study.main(["NoSuchHead"])
    assert "unknown: NoSuchHead; there are AdaFuSE," in capsys.readouterr().err


def test_noise_changes_the_drawing_and_nothing_else():
    bank = bundled(40)
    for condition in ("as drawn", "missing", "shuffled 0.5", "shuffled 1.0"):
        worse = study.noisy(bank, condition)
        assert torch.equal(worse.text, bank.text) and torch.equal(worse.target, bank.target)
    assert torch.equal(study.noisy(bank, "as drawn").generated, bank.generated)
    assert not study.noisy(bank, "missing").generated.any()
    assert torch.equal(study.noisy(bank, "shuffled 1.0").generated, bank.generated.roll(1, 0))
    changed = (
        (study.noisy(bank, "shuffled 0.5").generated != bank.generated).any(-1).double().mean()
    )
    assert 0.4 < float(changed) < 0.6
    assert torch.equal(
        study.noisy(bank, "shuffled 0.5").generated, study.noisy(bank, "shuffled 0.5").generated
    )


def test_drawings_of_other_dialogues_are_refused(monkeypatch):
    bank = bundled()
    drawn = replace(bank, generated=bank.generated.flip(0))
    monkeypatch.setattr(study, "load_bank", lambda *names: drawn)
    assert torch.equal(study.noisy(bank, "steps2").generated, drawn.generated)
    monkeypatch.setattr(study, "load_bank", lambda *names: replace(drawn, text=drawn.text.flip(0)))
    with pytest.raises(InputError, match="other dialogues"):
        study.noisy(bank, "steps2")


def test_a_study_is_kept_and_read_again(small, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "FOLDER", tmp_path / "study")
    monkeypatch.setattr(study, "SEEDS", range(2))
    monkeypatch.setattr(study, "Banks", lambda: small)
    monkeypatch.setattr(study, "pick_device", lambda: torch.device("cpu"))
    study.main(["GateOnly"])
    tables = study.load_study(small, "GateOnly")
    again, _ = study.train_variant(small, "GateOnly", 1, "cpu")
    assert len(tables) == 2 and tables[0].dtype == torch.int64
    assert torch.equal(tables[1], search.rank_table(again, small["visdial"]))
    with pytest.raises(
        InputError, match="AdaFuSE with seed 0.*python -m adafuse_lite.postcards.study AdaFuSE"
    ):
        study.load_study(small, "AdaFuSE")
    small["visdial"].meta = {"texts": "other ones"}
    with pytest.raises(InputError, match="other banks"):
        study.load_study(small, "GateOnly")
    small["visdial"].meta = {"texts": "visdial"}
    study.path_of("GateOnly", 1).unlink()
    with pytest.raises(InputError, match="GateOnly with seed 1"):
        study.load_study(small, "GateOnly")


def test_a_truncated_file_of_the_study_is_refused(small, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "FOLDER", tmp_path)
    write_tensors(
        study.path_of("AdaFuSE", 0), {"ranks/visdial": torch.zeros(4, 3).short()}, {"made_by": "x"}
    )
    whole = study.path_of("AdaFuSE", 0).read_bytes()
    study.path_of("AdaFuSE", 0).write_bytes(whole[:-5])
    with pytest.raises(InputError, match="truncated"):
        study.load_study(small, "AdaFuSE")


def test_the_full_head_keeps_gate_and_routing(small):
    model, _ = study.train_variant(small, "AdaFuSE", 0, "cpu")
    found = study.judge(model, small, "AdaFuSE")
    assert {f"ranks/{style}" for style in study.STYLES} | set(
        f"ranks/{c}" for c in study.CONDITIONS
    ) <= found.keys()
    bank = small["visdial"]
    with torch.no_grad():
        fused = model(bank.text[:, 1], bank.generated[:, 1])
    torch.testing.assert_close(
        found["gate/visdial"][:, 1].float(), fused.gate[:, 0], atol=1e-3, rtol=0
    )
    torch.testing.assert_close(
        found["routing/visdial"][:, 1].float(), fused.routing, atol=1e-3, rtol=0
    )
    control = study.judge(study.variants(24)["OtherPicture"][0](), small, "OtherPicture")
    assert control.keys() == {f"ranks/{style}" for style in study.STYLES}, (
        "who sees no drawing has no noise to bear"
    )


def test_published_start_is_a_turn_away_from_the_blend():
    torch.manual_seed(0)
    text, image = (F.normalize(torch.randn(6, 96), dim=-1) for _ in range(2))
    for name, starts_at_blend in (("AdaFuSE", True), ("PublishedInit", False)):
        model = study.variants(96)[name][0]().eval()
        query, gate, _ = model(text, image)
        turn = (query * fusion.blend(text, image, gate)).sum(1).clamp(max=1).arccos().max().item()
        assert math.isclose(turn, 0, abs_tol=2e-3) == starts_at_blend, name


@pytest.mark.slow
def test_a_random_training_comes_out_as_stored():
    banks = study.Banks()
    name, seed = (
        random.SystemRandom().choice(list(study.variants(96))),
        random.SystemRandom().choice(list(study.SEEDS)),
    )
    stored = study.load_study(banks, name)[seed]
    model, _ = study.train_variant(banks, name, seed)
    fields = study.variants(96)[name][1]
    apart = (
        metrics.recall_at_k(search.rank_table(model, banks["visdial"], **fields))
        - metrics.recall_at_k(stored)
    ).abs()
    assert float(apart.max()) <= BAND, (
        f"{name}, seed {seed}: Recall@10 is {float(apart.max()):.3f} away "
        f"at round {int(apart.argmax())}"
    )
