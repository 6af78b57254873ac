"""Every notebook as it stands, by papermill: seconds,
memory, and in 00 the wait for the first picture."""

import json
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import nbformat
import psutil
import torch
from measure import Row

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from notebook_kit import notebooks  # noqa: E402
from run_notebooks import environment  # noqa: E402

RUNS_OF_00 = 3
# For --quick: does the measuring work?
SMALL = """import matplotlib.pyplot as plt
plt.plot([1, 2]);"""


def memory(process):
    """Bytes that a process and all that it started hold now."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_info().rss
        except psutil.Error:  # it ended meanwhile
            continue
    return total


def run(notebook):
    """Execute a notebook in another folder: seconds,
    peak bytes of papermill and kernel, the notebook."""
    with tempfile.TemporaryDirectory() as folder:
        done = Path(folder, "done.ipynb")
        command = [sys.executable, "-m", "papermill", notebook, done, "--no-progress-bar"]
        start, peak = time.perf_counter(), 0
        said = Path(folder, "said.txt")
        with said.open("w", encoding="utf-8") as file:
            child = subprocess.Popen(
                command,
                cwd=folder,
                env=environment(cuda=torch.cuda.is_available()),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        while child.poll() is None:
            try:
                peak = max(peak, memory(psutil.Process(child.pid)))
            except psutil.Error:
                continue
            time.sleep(0.1)
        seconds = time.perf_counter() - start
        if child.returncode:
            raise SystemExit(
                f"{notebook.stem} does not run:\n{said.read_text(encoding='utf-8')[-2000:]}"
            )
        return seconds, peak, json.loads(done.read_text(encoding="utf-8"))


def first_picture(executed):
    """Seconds from before the kernel's start to the end of the first cell that shows a picture."""
    moment = lambda where, which: datetime.fromisoformat(where["metadata"]["papermill"][which])
    for cell in executed["cells"]:
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            return (moment(cell, "end_time") - moment(executed, "start_time")).total_seconds()
    raise SystemExit("no cell shows a picture")


def measure(quick=False):
    if quick:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "small.ipynb")
            cell = nbformat.v4.new_code_cell(SMALL)
            kernel = {
                "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
            }
            nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), path)
            return rows_of(path, [run(path)], picture=True)
    first, *others = notebooks()
    rows = rows_of(first, [run(first) for _ in range(RUNS_OF_00)], picture=True)
    for path in others:
        rows += rows_of(path, [run(path)])
    return rows


def rows_of(path, runs, picture=False):
    waited = [first_picture(done) for *_, done in runs] if picture else []
    rows = [Row(f"{path.stem}: to the first picture", waited, "s")] if picture else []
    return rows + [
        Row(f"{path.stem}: time", [seconds for seconds, *_ in runs], "s"),
        Row(f"{path.stem}: peak memory", [peak / 2**20 for _, peak, _ in runs], "MB"),
    ]
