"""What all parts share: runs in turn, medians with their spread,
peak memory, facts about the machine."""

import os
import platform
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from adafuse_lite import pick_device

GOALS = {">=": lambda value, bound: value >= bound, "<=": lambda value, bound: value <= bound}


@dataclass
class Row:
    """A line of the table: the median of ``values``,
    their spread, and perhaps a goal such as ">= 5"."""

    what: str
    values: list
    unit: str
    goal: str = ""
    points: list = field(default_factory=list)  # of a curve that the figure shows: [size, seconds]

    @property
    def median(self):
        return statistics.median(self.values)

    @property
    def verdict(self):
        if not self.goal or not self.values:
            return ""
        sign, bound = self.goal.split()
        return "holds" if GOALS[sign](self.median, float(bound)) else "missed"

    def record(self):
        """As ``results.json`` keeps it; a row without values says in ``what`` why it has none."""
        spread = (self.median, min(self.values), max(self.values)) if self.values else (None,) * 3
        numbers = {k: v and float(f"{v:.4g}") for k, v in zip(("median", "min", "max"), spread)}
        points = {"points": [[n, float(f"{s:.4g}")] for n, s in self.points]} if self.points else {}
        return {
            "what": self.what,
            "unit": self.unit,
            **numbers,
            "runs": len(self.values),
            "goal": self.goal,
            "verdict": self.verdict,
            **points,
        }


# --- time ---
def wait(device):
    """Until the device has done all that it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def in_turn(ways, repeats, device="cpu"):
    """Seconds of each way: {name: [repeats]}. A, B, C,
    then C, B, A and so on: no way is always the first.

    One uncounted run of each comes before.
    """
    taken = {name: [] for name in ways}
    for turn in range(-1, repeats):
        for name in list(ways)[:: -1 if turn % 2 else 1]:
            wait(device)
            start = time.perf_counter()
            ways[name]()
            wait(device)
            if turn >= 0:
                taken[name].append(time.perf_counter() - start)
    return taken


def ratios(above, below):
    """Run by run: what ran side by side met the same disturbances."""
    return [a / b for a, b in zip(above, below)]


# --- memory ---
def megabytes(name):
    return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def peak_above(function, device="cpu"):
    """Megabytes that ``function`` takes at most,
    above what the process holds already. For a fresh one.

    VmHWM and not ru_maxrss where Linux tells it: a child inherits the latter from its parent.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    if Path("/proc/self/status").exists():
        before = megabytes("VmRSS")
        function()
        return megabytes("VmHWM") - before
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    function()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit - before


def in_child(script, *arguments):
    """The number that a script prints, run in a process of its own."""
    command = [sys.executable, script, *map(str, arguments)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


# --- inputs and facts ---
def unit_vectors(*shape, device="cpu", seed=0):
    x = torch.randn(*shape, generator=torch.Generator(device).manual_seed(seed), device=device)
    return x.div_(x.norm(dim=-1, keepdim=True))  # in place: memory is measured, too


def machine():
    """What the numbers depend on; no name of a host, no path."""
    device = pick_device()
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        cpu = found[1] if found else cpu
    facts = {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": "CPU",
    }
    if device.type == "cuda":
        facts["device"] = torch.cuda.get_device_name(device)
    if hasattr(os, "getloadavg"):
        facts["load at the start"] = round(os.getloadavg()[0], 2)
    return facts
