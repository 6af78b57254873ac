"""`import adafuse_lite`: what it costs, what it offers, and what it sets before PyTorch comes."""

import importlib.metadata
import os
import subprocess
import sys
import tomllib

import pytest
from notebook_kit import ROOT

import adafuse_lite

# what design and README promise, whichever room it lives in
PROMISED = """
    load_benchmark load_bank load_encoder load_generator build_bank FeatureBank Benchmark Dialogue
    AdaFuSE GateOnly ExpertsOnly TextOnly ImageOnly FixedWeight DAR CosineGate blend Fusion fit
    tune_fixed_weight ranks rank_table top PictureIndex index_pictures hits_at_k recall_at_k mrr
    bri degradation bootstrap paired_difference rewrite pick_device seed_everything InputError
"""


def fresh(script, **env):
    """The output of a script in a new process; None takes a variable out of the environment."""
    everything = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={name: value for name, value in everything.items() if value is not None},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return run


def test_importing_takes_no_time_and_no_torch():
    script = (
        "import sys, time; begun = time.perf_counter(); import adafuse_lite; "
        "print(time.perf_counter() - begun, 'torch' in sys.modules)"
    )
    runs = [fresh(script).stdout.split() for _ in range(3)]
    assert min(float(seconds) for seconds, _ in runs) < 0.3
    assert {torch for _, torch in runs} == {"False"}


def test_dir_knows_all_names_before_they_are_used():
    listed = fresh("import adafuse_lite; print(*dir(adafuse_lite))").stdout.split()
    assert {*PROMISED.split(), "__version__"} <= set(listed)
    assert set(adafuse_lite.__all__) <= set(listed)


@pytest.mark.parametrize("name", adafuse_lite.__all__)
def test_each_name_is_that_of_its_room(name):
    public = getattr(adafuse_lite, name)
    assert public.__module__.startswith("adafuse_lite.")
    assert public is getattr(sys.modules[public.__module__], name)
    assert public.__doc__, name


def test_rooms_can_be_asked_for_as_well():
    script = "from adafuse_lite import metrics, search, top; print(metrics.__name__, top.__name__)"
    assert fresh(script).stdout.split() == ["adafuse_lite.metrics", "top"]


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'AdaFUSE'"):
        _ = adafuse_lite.AdaFUSE


def test_the_version_stands_in_the_package_alone():
    toml = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert toml["project"]["dynamic"] == ["version"]
    assert toml["tool"]["setuptools"]["dynamic"]["version"]["attr"] == "adafuse_lite.__version__"
    assert importlib.metadata.version("adafuse-lite") == adafuse_lite.__version__


def test_threads_wait_asleep_unless_told_otherwise():
    """PyTorch's OpenMP says what it took over, where it is GNU's."""
    script = "import adafuse_lite, os, torch; print(os.environ['OMP_WAIT_POLICY'])"
    for given, taken in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        run = fresh(script, OMP_WAIT_POLICY=given, OMP_DISPLAY_ENV="TRUE")
        assert run.stdout.split()[-1] == taken
        said = [line for line in run.stderr.splitlines() if "OMP_WAIT_POLICY" in line]
        assert all(f"'{taken}'" in line for line in said)


def test_what_can_be_run_is_said():
    run = subprocess.run(
        [sys.executable, "-m", "adafuse_lite"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert adafuse_lite.__version__ in run.stdout and "python -m adafuse_lite.bank" in run.stdout
