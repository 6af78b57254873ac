"""Makes the bare `pytest --nbval notebooks` do the right thing, from any folder of the checkout."""

import os

from notebook_kit import KERNEL_ENV, ROOT

# Before a test imports PyTorch: threads wait asleep, so a busy machine does not slow tests down.
os.environ.setdefault("OMP_WAIT_POLICY", KERNEL_ENV["OMP_WAIT_POLICY"])


def pytest_configure(config):
    option = config.option
    if not (getattr(option, "nbval", False) or getattr(option, "nbval_lax", False)):
        return
    os.environ.update(KERNEL_ENV)  # the kernels inherit it
    paths = [str(ROOT), os.environ.get("PYTHONPATH")]  # the checkout, installed or not
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    option.nbval_sanitize_with = option.nbval_sanitize_with or str(
        ROOT / "tests" / "tools" / "nbval_sanitize.cfg"
    )
    option.nbval_current_env = option.nbval_kernel_name is None
    if option.nbval_cell_timeout == 2000:  # nbval's default: a dead kernel would go unnoticed
        option.nbval_cell_timeout = 300.0
    if getattr(option, "dist", "no") == "load":  # pytest -n: keep the cells of a notebook together
        option.dist = "loadfile"
