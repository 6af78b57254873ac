"""What the tests and tools know about the notebooks: where they are, how they are run, what each
must begin with. Standard library only, so that any Python can run it.

    python tests/tools/notebook_kit.py cells 04_train   badge and set-up cell of a notebook
    python tests/tools/notebook_kit.py steps test       a command of the README, step by step
    python tests/tools/notebook_kit.py address URL      a new public address, everywhere
"""

import ast
import json
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Stored outputs and the runs that are compared with them come from equal circumstances.
KERNEL_ENV = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "2",
    "OMP_WAIT_POLICY": "PASSIVE",
    "PYTHONHASHSEED": "0",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}

SETUP_CELL = """\
import importlib.util
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads wait asleep: fast on a busy machine

if "COLAB_RELEASE_TAG" in os.environ and importlib.util.find_spec("adafuse_lite") is None:
    !git clone -q --depth 1 {address} /content/adafuse-lite
    %cd -q /content/adafuse-lite/notebooks
    %pip install -q open_clip_torch
    %pip install -q --no-deps /content/adafuse-lite"""

BADGE = (
    "[![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/{slug}/blob/main/notebooks/{name}.ipynb)"
)


def notebooks():
    """The notebooks in the order of the lesson."""
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


def address():
    """The public address of the repository."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["urls"]["Repository"]


def slug():
    """The OWNER/NAME of the public address."""
    return address().removeprefix("https://github.com/")


def setup_cell():
    """The set-up cell, the same in every notebook."""
    return SETUP_CELL.format(address=address())


def badge(name):
    """The Colab badge of notebook `name` (04_train)."""
    return BADGE.format(slug=slug(), name=name)


def tags(cell):
    return cell.get("metadata", {}).get("tags", [])


def source(cell):
    return "".join(cell["source"])


def smallest_parameters(notebook):
    """The smallest parameters, read from remarks in the cell tagged `parameters`:

    steps = 600  # how long to train (smallest: 20)
    """
    (cell,) = [c for c in notebook["cells"] if "parameters" in tags(c)]
    found = re.findall(r"(?m)^(\w+)\b.*# .*\(smallest: (.+)\)$", source(cell))
    return {name: ast.literal_eval(value) for name, value in found}


def readme_command(name):
    """The one line in the README's code block marked `<!-- command: name -->`."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(rf"<!-- command: {name} -->\n```bash\n(.*?)```\n", text, re.DOTALL)
    lines = "".join(blocks).splitlines()
    if len(blocks) != 1 or len(lines) != 1:
        raise SystemExit(f"README.md: needs one block marked '{name}' with one line in it")
    return lines[0]


def change_address(new):
    """Write a new public address to pyproject.toml and to every notebook."""
    new = new.rstrip("/").removesuffix(".git")
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", new):
        raise SystemExit(f"{new}: not an address like https://github.com/OWNER/NAME")
    old, old_slug = address(), slug()
    for path in [ROOT / "pyproject.toml", *notebooks()]:
        text = path.read_text(encoding="utf-8").replace(old, new)
        text = text.replace(f"/github/{old_slug}/blob/", f"/github/{new[19:]}/blob/")
        path.write_text(text, encoding="utf-8")


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["cells", name]:
            print(badge(name), setup_cell(), sep="\n\n")
        case ["steps", name]:
            print(*readme_command(name).split(" && "), sep="\n")
        case ["address", new]:
            change_address(new)
        case _:
            raise SystemExit(__doc__)
