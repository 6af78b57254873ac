"""Building the bank of Postcards: pictures per second by stage,
and what is left outside the models."""

import tempfile
import time
from collections import Counter
from contextlib import contextmanager, redirect_stderr
from io import StringIO

from measure import Row, wait

from adafuse_lite import build_bank, load_benchmark, load_encoder, load_generator
from adafuse_lite.postcards.probe import load_probe

# Dialogues and pictures of the corpus,
# in the proportion of the test split (1,000 and 10,000); rounds.
FULL, QUICK = (50, 500, 11), (2, 8, 1)
STAGES = {
    "text encoding": "texts",
    "drawing": "pictures",
    "picture encoding": "pictures",
    "reading by the probe": "pictures",
}


class Stopwatch:
    """Seconds spent in methods and how many items they got,
    by stage; they are wrapped while it runs."""

    def __init__(self, device):
        self.seconds, self.items, self.device = Counter(), Counter(), device

    @contextmanager
    def watch(self, places):
        """places: [(object, name of its method, stage)]"""
        before = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
        for owner, name, stage in places:
            setattr(owner, name, self._wrapped(getattr(owner, name), stage))
        try:
            yield self
        finally:
            for owner, name, method in before:
                setattr(owner, name, method)

    def _wrapped(self, method, stage):
        def timed(items, *args, **options):
            wait(self.device)
            start = time.perf_counter()
            result = method(items, *args, **options)
            wait(self.device)
            self.seconds[stage] += time.perf_counter() - start
            self.items[stage] += len(items)
            return result

        return timed


class Timed:
    """A callable object in the place of another:
    a call looks up no attribute that could be replaced."""

    def __init__(self, wrapped, call):
        self.__dict__.update(_wrapped=wrapped, _call=call)

    def __getattr__(self, name):
        return getattr(self._wrapped, name)

    def __call__(self, *args, **options):
        return self._call(*args, **options)


def build(benchmark, encoder, generator, probe, rounds):
    """One build into a fresh folder: the whole's seconds,
    by stage, and within the networks themselves."""
    stages, networks = Stopwatch(encoder.device), Stopwatch(encoder.device)
    inner = [
        (encoder.model, "encode_text", "networks"),
        (encoder.model, "encode_image", "networks"),
        (probe, "forward", "networks"),
    ]
    outer = [
        (encoder, "encode_text", "text encoding"),
        (encoder, "encode_images", "picture encoding"),
        (probe, "read", "reading by the probe"),
    ]
    pipeline = generator.pipeline
    generator.pipeline = Timed(pipeline, networks._wrapped(pipeline.__call__, "networks"))
    drawing = Timed(generator, stages._wrapped(generator.__call__, "drawing"))
    with (
        tempfile.TemporaryDirectory() as folder,
        networks.watch(inner),
        stages.watch(outer),
        redirect_stderr(StringIO()),
    ):
        start = time.perf_counter()
        build_bank(benchmark, encoder, drawing, probe, rounds=rounds, out=folder)
        whole = time.perf_counter() - start
    generator.pipeline = pipeline
    return whole, stages, networks.seconds["networks"]


def measure(quick=False):
    dialogues, pictures, rounds = QUICK if quick else FULL
    benchmark = load_benchmark("postcards").limit(dialogues, pictures)
    encoder, generator, probe = load_encoder(), load_generator(), load_probe()
    builds = [build(benchmark, encoder, generator, probe, rounds) for _ in range(1 if quick else 3)]
    rows = []
    for stage, items in STAGES.items():
        speed = [stages.items[stage] / stages.seconds[stage] for _, stages, _ in builds]
        rows.append(Row(stage, speed, f"{items}/s"))
        shares = [stages.seconds[stage] / whole for whole, stages, _ in builds]
        rows.append(Row(f"{stage}, share of the time", shares, "share"))
    within = [1 - networks / whole for whole, _, networks in builds]
    outside = [1 - sum(stages.seconds.values()) / whole for whole, stages, _ in builds]
    rows += [
        Row(
            "the whole, drawings",
            [s.items["drawing"] / whole for whole, s, _ in builds],
            "pictures/s",
        ),
        Row(
            "reading, writing and all else: outside encoder, generator and probe",
            outside,
            "share",
            "<= 0.1",
        ),
        Row("the same with tokens, pixels and checks: outside the networks", within, "share"),
    ]
    return rows
