"""Where models run, and where their luck comes from."""

import random

import numpy as np
import torch

from .checks import refusing


def pick_device(wanted=None):
    """``wanted``, or the best there is: an NVIDIA GPU, an Apple GPU, or the CPU."""
    apple = "mps" if torch.backends.mps.is_available() else "cpu"
    with refusing(RuntimeError, f"{wanted!r} is no device", "say 'cuda', 'mps' or 'cpu'"):
        return torch.device(wanted or ("cuda" if torch.cuda.is_available() else apple))


def device_of(model):
    """Where the model's parameters and buffers are."""
    return next((x.device for x in model.state_dict().values()), torch.device("cpu"))


def seed_everything(seed):
    """Seed Python, NumPy and PyTorch; call it before building a model."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (libraries draw from this one)
    torch.manual_seed(seed)
