"""Killed, cut short, without room, two at once: always the right result or a clear refusal, and
nothing stored is lost."""

import errno
import os
import random
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from hard_kit import (
    REFUSED,
    FakeEncoder,
    FakeGenerator,
    attempt,
    content,
    fake_benchmark,
    flipped,
    weights,
)
from toy_bank import toy_bank
from tqdm.std import tqdm

from adafuse_lite import AdaFuSE, FeatureBank, PictureIndex, build_bank, fit

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="killing needs a fork")
TRIALS = [pytest.param(3, id="few"), pytest.param(25, id="many", marks=pytest.mark.slow)]
QUERIES, ROUNDS = 12, 3


def start(work):
    """Do ``work()`` in a child process; 0 is its exit code if it came to its end."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setpgid(0, 0)
        torch.set_num_threads(1)
        tqdm.set_lock(
            threading.RLock()
        )  # the usual one is shared with the parent, and a killed child would keep it for ever
        work()
    except BaseException:
        os._exit(1)
    os._exit(0)


def killed(work, after):
    """Do ``work()`` in a child and kill it after some
    seconds -> whether it was killed before its end."""
    pid = start(work)
    time.sleep(after)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def build(out, log=None, pause=0.0):
    """Build the fake bank; a batch that is begun is a byte in the file ``log``."""

    def tick(what):
        if log:
            with open(log, "ab") as file:
                file.write(what[:1].encode())
        time.sleep(pause)

    return build_bank(
        fake_benchmark(QUERIES, ROUNDS), FakeEncoder(tick), FakeGenerator(tick), out=out
    )


def begun(log):
    return log.stat().st_size if log.exists() else 0


def took(work):
    """Seconds that the work takes in a child that is left alone."""
    since = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(start(work), 0)[1]) == 0
    return time.monotonic() - since


# --- killed ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("trials", TRIALS)
def test_a_build_killed_at_any_moment(tmp_path, trials):
    """tried: SIGKILL at a random moment of a build;
    promised: the same bank to the bit, one batch done twice at most."""
    rng, wanted, hit = random.Random(trials), content(build(None)), 0
    length = took(lambda: build(tmp_path / "whole", tmp_path / "all", pause=0.02))
    total = begun(tmp_path / "all")
    for i in range(trials):
        out, first, second = (tmp_path / f"{i}.{x}" for x in ("bank", "first", "second"))
        hit += killed(partial(build, out, first, 0.02), rng.uniform(0.05, 0.95) * length)
        assert content(build(out, second)) == wanted == content(FeatureBank.load(out))
        assert begun(first) + begun(second) <= total + 1
        assert not list(out.glob("**/*.safetensors.tmp"))
    assert hit > trials / 2


@pytest.mark.parametrize("trials", TRIALS)
def test_a_training_killed_at_any_moment(tmp_path, trials):
    """tried: SIGKILL at a random moment of a training with a checkpoint;
    promised: the same head and history to the bit."""
    rng, bank, validation, hit = random.Random(trials), toy_bank(48), toy_bank(20, seed=5), 0

    def go(checkpoint, pause=0.0):
        torch.manual_seed(0)
        head = AdaFuSE(12, 8, 16)
        if pause:
            head.register_forward_pre_hook(lambda *_: time.sleep(pause))
        return head, fit(
            head,
            bank,
            validation,
            epochs=5,
            batch_size=16,
            device="cpu",
            progress=False,
            checkpoint=checkpoint,
        )

    wanted, history = go(None)
    length = took(lambda: go(tmp_path / "whole.safetensors", 0.01))
    for i in range(trials):
        path = tmp_path / f"{i}.safetensors"
        hit += killed(partial(go, path, 0.01), rng.uniform(0.05, 0.95) * length)
        head, again = go(path)
        assert again == history and weights(head) == weights(wanted)
    assert hit > trials / 2


@pytest.mark.parametrize(
    "trials", [pytest.param(4, id="few"), pytest.param(30, id="many", marks=pytest.mark.slow)]
)
def test_saving_over_a_good_file_killed(tmp_path, trials):
    """tried: SIGKILL while head, bank and index are stored over older ones, again and again;
    promised: an old or a new one, or a refusal; never a mixture."""
    rng, hit = random.Random(trials), 0
    torch.manual_seed(0)
    heads = [AdaFuSE(16, 8, 16, zero_init=False) for _ in range(2)]
    banks = [build_bank(fake_benchmark(n, 2, 40), FakeEncoder(), FakeGenerator()) for n in (5, 6)]
    indices = [
        PictureIndex([f"{k}{i}" for i in range(8)], torch.randn(8, 16).half().float(), {"made": k})
        for k in range(2)
    ]

    def save(k):
        heads[k].save_pretrained(tmp_path / "head")
        banks[k].save(tmp_path / "bank")
        indices[k].save(tmp_path / "index")

    def for_ever():
        for k in range(100_000):
            save(k % 2)

    for _ in range(trials):
        save(0)
        hit += killed(for_ever, rng.uniform(0.02, 0.25))
        head = attempt(lambda: AdaFuSE.from_pretrained(tmp_path / "head"))
        assert head is REFUSED or weights(head) in map(weights, heads)
        bank = attempt(lambda: FeatureBank.load(tmp_path / "bank"))
        assert bank is REFUSED or content(bank) in map(content, banks)
        index = attempt(lambda: PictureIndex.load(tmp_path / "index"))
        assert index is REFUSED or any(
            index.names == x.names and torch.equal(index.features, x.features) for x in indices
        )
    assert hit == trials


# --- damaged, without room, two at once -----------------------------------------------------------
@pytest.mark.parametrize("trials", TRIALS)
def test_damaged_parts_of_a_half_built_bank(tmp_path, trials):
    """tried: parts of a broken-off build cut short or a bit flipped;
    promised: they are made anew, the bank is right."""
    rng, wanted = random.Random(trials), content(build(None))

    class Stop(Exception):
        pass

    def stop(what):
        calls.append(what)
        if len(calls) > 8:
            raise Stop

    for i in range(trials):
        out, calls = tmp_path / str(i), []
        with pytest.raises(Stop):
            build_bank(
                fake_benchmark(QUERIES, ROUNDS), FakeEncoder(stop), FakeGenerator(stop), out=out
            )
        parts = sorted((out / "parts").glob("*.safetensors"))
        assert parts
        for path in parts:
            data = path.read_bytes()
            path.write_bytes(
                data[: rng.randrange(len(data))] if rng.random() < 0.5 else flipped(data, rng)
            )
        assert content(build(out)) == wanted


def test_two_builders_at_once(tmp_path):
    """tried: two processes build one bank in one folder;
    promised: both come to their end, the bank is right."""
    wanted = content(build(None))
    for i in range(2):
        both = [start(partial(build, tmp_path / str(i), pause=0.005)) for _ in range(2)]
        assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in both] == [0, 0]
        assert content(FeatureBank.load(tmp_path / str(i))) == wanted


def test_a_file_where_the_folder_should_be(tmp_path):
    """tried: bank, index and checkpoint in a place that cannot be a folder;
    promised: one sentence, the file there is kept."""
    (tmp_path / "taken").write_text("mine")
    bank, index = build(None), PictureIndex(["a"], torch.zeros(1, 16), {})
    for save in (bank.save, build, index.save):
        assert attempt(partial(save, tmp_path / "taken" / "x")) is REFUSED
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is read-only for root"
)
def test_a_folder_that_cannot_be_written(tmp_path):
    """tried: a bank stored in a read-only folder; promised: one sentence."""
    (tmp_path / "locked").mkdir(mode=0o500)
    assert attempt(lambda: build(tmp_path / "locked")) is REFUSED


@pytest.mark.parametrize("stage", range(4))
def test_a_full_disk(tmp_path, stage, monkeypatch):
    """tried: no room left at some write of a build;
    promised: one sentence, no half file, and with room it goes on."""
    wanted, writes, write = content(build(None)), [], Path.write_bytes

    def full(path, data):
        writes.append(path)
        if len(writes) > 3 * stage:
            write(path, b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert attempt(lambda: build(tmp_path / "bank")) is REFUSED
    assert (
        not list(tmp_path.glob("**/*.tmp"))
        and attempt(lambda: FeatureBank.load(tmp_path / "bank")) is REFUSED
    )
    log = tmp_path / "log"
    assert content(build(tmp_path / "bank", log)) == wanted
    build(tmp_path / "other", tmp_path / "all")
    kept = max(
        0, 3 * stage - 1
    )  # of the parts stored, the second is the corpus, which is not in the log
    assert begun(log) == begun(tmp_path / "all") - kept


def test_a_store_of_a_head_that_runs_out_of_room(tmp_path, monkeypatch):
    """tried: no room while a head is stored over another;
    promised: one sentence, and no head that is half the old one."""
    torch.manual_seed(0)
    old, new = AdaFuSE(16, 8, 16, encoder_hash="old"), AdaFuSE(16, 8, 16, encoder_hash="new")
    old.save_pretrained(tmp_path / "head")

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert attempt(lambda: new.save_pretrained(tmp_path / "head")) is REFUSED
    found = attempt(lambda: AdaFuSE.from_pretrained(tmp_path / "head"))
    assert found is REFUSED or (weights(found) == weights(old) and found.encoder_hash == "old")
    new.save_pretrained(tmp_path / "head")
    assert weights(AdaFuSE.from_pretrained(tmp_path / "head")) == weights(new)
