"""Execute the notebooks in order and store their outputs, cleaned. What differs from run to run is
left out or, where nbval overlooks it, kept as it was: a second run on the same machine changes no
byte. The picture of a cell tagged `figure-NAME` is also kept as figures/NAME.png.

    python tests/tools/refresh_notebooks.py             all of them
    python tests/tools/refresh_notebooks.py 04_train    some
    python tests/tools/refresh_notebooks.py --check     only say which would change (exit code 1)
"""

import argparse
import base64
import io
import json
import os
import re
import sys
import time

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from notebook_kit import KERNEL_ENV, ROOT, notebooks, read, tags
from PIL import Image

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
KEPT = {"accelerator"}  # opens a GPU runtime on Colab
KEPT_OF_CELL = {"tags", "jupyter"}


def clean(notebook):
    """A notebook without what differs from run to run or what a viewer stumbles over."""
    kept = {k: v for k, v in notebook["metadata"].items() if k in KEPT}
    if "colab" in notebook["metadata"]:
        gpu = {k: v for k, v in notebook["metadata"]["colab"].items() if k == "gpuType"}
        kept |= {"colab": gpu} if gpu else {}
    notebook["metadata"] = METADATA | kept
    notebook["nbformat"], notebook["nbformat_minor"] = 4, 5
    for i, cell in enumerate(notebook["cells"]):
        cell.setdefault("id", f"cell-{i}")
        cell["metadata"] = {k: v for k, v in cell["metadata"].items() if k in KEPT_OF_CELL}
        if cell["cell_type"] == "code":
            cell["outputs"] = joined(cell["outputs"])
            for output in cell["outputs"]:
                output.get("data", {}).pop(WIDGET_VIEW, None)
                if "image/png" in output.get("data", {}):
                    output["data"]["image/png"] = lighter("".join(output["data"]["image/png"]))
    return notebook


def lighter(png):
    """A picture (PNG in base64) with 256 colours,
    which nobody can tell from the full one in a figure."""
    image = Image.open(io.BytesIO(base64.b64decode(png)))
    if image.mode == "P":
        return png
    held = io.BytesIO()
    image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(held, "PNG", optimize=True)
    return base64.b64encode(held.getvalue()).decode() + "\n"


def joined(outputs):
    """Neighbouring pieces of one stream as one: where it is cut is a matter of timing."""
    result = []
    for output in outputs:
        last = result[-1] if result else {}
        if output["output_type"] == "stream" and last.get("name") == output["name"]:
            last["text"] = "".join(last["text"]) + "".join(output["text"])
        else:
            result.append(output)
    return result


def compared(text):
    """A notebook as `pytest --nbval` sees it: outputs with the rules of its file applied."""
    notebook = json.loads(text)
    rules = (ROOT / "tests" / "tools" / "nbval_sanitize.cfg").read_text(encoding="utf-8")
    for pattern, replacement in re.findall(r"(?m)^regex: (.*)$\n^replace: (.*)$", rules):
        for output in (o for c in notebook["cells"] for o in c.get("outputs", [])):
            for holder in (output, output.get("data", {})):
                for kind in {"text", "text/plain", "text/html"} & holder.keys():
                    holder[kind] = re.sub(pattern, replacement, "".join(holder[kind]))
    return notebook


def keep_figures(text):
    """Write the pictures of the cells tagged `figure-NAME` to figures/NAME.png."""
    for cell in json.loads(text)["cells"]:
        for name in (t.removeprefix("figure-") for t in tags(cell) if t.startswith("figure-")):
            (png,) = [
                o["data"]["image/png"] for o in cell["outputs"] if "image/png" in o.get("data", {})
            ]
            (ROOT / "figures").mkdir(exist_ok=True)
            (ROOT / "figures" / f"{name}.png").write_bytes(base64.b64decode("".join(png)))


def execute(path, timeout):
    """The text of the executed, cleaned notebook."""
    notebook = nbformat.reads(json.dumps(clean(read(path))), as_version=4)
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    notebook = nbformat.from_dict(clean(notebook))
    nbformat.validate(notebook)
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", help="notebooks, such as 04_train (default: all)")
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--timeout", type=int, default=1800, help="seconds a cell")
    args = parser.parse_args()

    os.environ.update(KERNEL_ENV)
    paths = [str(ROOT), os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    chosen = [p for p in notebooks() if not args.names or p.stem in args.names]
    if len(chosen) < len(args.names) or not chosen:
        raise SystemExit("no such notebook; there are: " + " ".join(p.stem for p in notebooks()))

    changed = 0
    for path in chosen:
        start, old = time.perf_counter(), path.read_text(encoding="utf-8")
        try:
            new = execute(path, args.timeout)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            raise SystemExit(f"{path.name}: {error}\n{path.name} was left as it was") from None
        same = compared(new) == compared(old)
        changed += not same
        if not same and not args.check:
            path.write_text(new, encoding="utf-8")
            keep_figures(new)
        said = "unchanged" if same else "would change" if args.check else "stored"
        if '"name": "stderr"' in new:
            said += ", but a cell wrote to stderr"
        seconds, size = time.perf_counter() - start, len(new.encode()) / 1e6
        print(f"{path.name}: {said} ({seconds:.0f} s, {size:.2f} MB)", flush=True)
    return 1 if args.check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
