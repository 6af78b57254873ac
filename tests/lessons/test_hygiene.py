"""How the stored notebooks must look. What they do is compared by `pytest --nbval notebooks`."""

import ast
import json
import re
import statistics

import nbformat
import pytest
from notebook_kit import (
    ROOT,
    SETUP_CELL,
    badge,
    notebooks,
    read,
    setup_cell,
    smallest_parameters,
    source,
    tags,
)

# a folder of somebody's machine, POSIX or Windows; an address on the web is none
MACHINE_PATH = re.compile(
    r"(?<![\w.:/])/(?:home|root|tmp|work|Users|opt|mnt|usr/local/lib)/[\w.-]+|\b[A-Z]:\\Users\\"
)
MEMORY_ADDRESS = re.compile(r"\b0x[0-9a-f]{8,16}\b")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
IGNORED = {"nbval-ignore-output", "nbval-skip"}
IGNORED_BY_REMARK = re.compile(r"(?m)^\s*#\s*NBVAL_(IGNORE_OUTPUT|SKIP)\s*$")
MAGIC = re.compile(r"\s*[%!]")


@pytest.fixture(scope="module", params=notebooks(), ids=lambda p: p.stem)
def path(request):
    return request.param


@pytest.fixture(scope="module")
def notebook(path):
    return read(path)


@pytest.fixture(scope="module")
def code(notebook):
    return [c for c in notebook["cells"] if c["cell_type"] == "code"]


def texts(output):
    """Every text of an output: streams, tracebacks, plain text, HTML, SVG."""
    parts = [output.get("text", ""), output.get("traceback", "")]
    parts += [v for k, v in output.get("data", {}).items() if not k.startswith("image/p")]
    return "\n".join("".join(p) if isinstance(p, list) else str(p) for p in parts)


def test_there_are_notebooks():
    assert notebooks(), "notebooks/ holds no notebook"


def test_is_valid(notebook):
    nbformat.validate(nbformat.from_dict(notebook))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)


def test_metadata_fits_every_viewer(notebook):
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert "widgets" not in notebook["metadata"]
    assert not any("injected-parameters" in tags(c) for c in notebook["cells"])


def test_was_executed_once_from_first_to_last(code):
    assert all(source(c).strip() for c in code), "there is an empty code cell"
    assert [c["execution_count"] for c in code] == list(range(1, len(code) + 1))


def test_outputs_are_clean(code):
    for number, cell in enumerate(code, 1):
        for output in cell["outputs"]:
            where = f"In [{number}]"
            assert output["output_type"] != "error", f"{where}: stored error"
            assert output.get("name") != "stderr", f"{where}: {texts(output)[:200]}"
            assert WIDGET_VIEW not in output.get("data", {}), f"{where}: stored widget view"
            assert not MEMORY_ADDRESS.search(texts(output)), f"{where}: an address in memory"


def test_names_no_folder_of_a_machine(notebook):
    for cell in notebook["cells"]:
        shown = source(cell) + "".join(texts(o) for o in cell.get("outputs", []))
        assert not (found := MACHINE_PATH.search(shown)), found.group()


def test_compares_under_nbval(code):
    for cell in code:
        text = source(cell)
        assert not text.rstrip().endswith(";"), "nbval knows no trailing ';': use plt.show()"
        assert not re.search(r"(?m)^\s*%%?time(it)?\b", text), "a timing differs from run to run"
    hidden = [c for c in code if IGNORED & set(tags(c)) or IGNORED_BY_REMARK.search(source(c))]
    assert len(hidden) <= 3, "too many cells that nbval does not compare"


def only_sets_up(cell):
    """Cells that only import, define or assign need no output."""
    lines = [line for line in source(cell).splitlines() if not MAGIC.match(line)]
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    try:
        return all(isinstance(node, kinds) for node in ast.parse("\n".join(lines)).body)
    except SyntaxError:  # the set-up cell, whose block is all magic
        return True


def test_results_are_said_in_words_and_compared(code):
    """Of the cells with a result, 60 % say it in text that nbval compares:
    a picture alone is not compared."""
    results = [c for c in code if not only_sets_up(c)]
    said = [
        c
        for c in results
        if not IGNORED & set(tags(c))
        and any(
            texts(o).strip() and not re.fullmatch(r"<[\w .]*(Figure|Axes).*>", texts(o).strip())
            for o in c["outputs"]
        )
    ]
    assert len(said) >= 0.6 * len(results), f"{len(said)} of {len(results)}"


def test_has_one_parameters_cell(notebook, code):
    found = [c for c in code if "parameters" in tags(c)]
    assert len(found) == sum("parameters" in tags(c) for c in notebook["cells"]) == 1
    # plain values only: papermill's own come in the cell after it, too late for anything derived
    given = {}
    for line in ast.parse(source(found[0])).body:
        assert isinstance(line, (ast.Assign, ast.AnnAssign)), ast.unparse(line)
        target = line.targets[0] if isinstance(line, ast.Assign) else line.target
        given[target.id] = ast.literal_eval(line.value)
    assert smallest_parameters(notebook).keys() <= given.keys()


def test_has_the_setup_cell_once_and_first(code):
    assert source(code[0]).strip() == setup_cell()
    for cell in code[1:]:
        assert not re.search(r"\b(pip3?|conda|mamba) install\b|git clone", source(cell))


def test_opens_with_its_own_badge(path, notebook):
    first = notebook["cells"][0]
    assert first["cell_type"] == "markdown"
    assert badge(path.stem) in source(first)
    links = [source(c).count("colab.research.google.com/github/") for c in notebook["cells"]]
    assert sum(links) == 1


def test_links_lead_somewhere(path, notebook):
    text = "\n".join(source(c) for c in notebook["cells"] if c["cell_type"] == "markdown")
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not re.match(r"(https?|mailto|attachment|data):", target):
            assert (path.parent / target).exists(), target


def test_is_small(path):
    assert path.stat().st_size <= 500_000


def test_reads_as_a_lesson(notebook, code):
    longest = run = 0
    for cell in notebook["cells"]:
        run = run + 1 if cell["cell_type"] == "code" else 0
        longest = max(longest, run)
    assert longest <= 2, f"{longest} code cells in a row"
    for cell in code:
        lines = [line for line in source(cell).splitlines() if line.strip()]
        assert len(lines) <= 40, f"a code cell of {len(lines)} lines: {lines[0]}"


# The median cell had at most 8 lines while a line held several statements. Formatted it has up to
# 14: that is where the lesson stands, and the way to 8 leads through shorter cells.
FORMATTED_LINES = 14


def test_texts_are_paragraphs_and_cells_are_short(notebook, code):
    words = [len(source(c).split()) for c in notebook["cells"] if c["cell_type"] == "markdown"]
    lines = [sum(bool(line.strip()) for line in source(c).splitlines()) for c in code]
    assert 25 <= statistics.median(words) <= 70, statistics.median(words)
    assert statistics.median(lines) <= FORMATTED_LINES, statistics.median(lines)


GPU = ("03_gate_and_experts", "04_train", "05_evaluate", "07_real_models")


def test_asks_colab_for_a_gpu_where_one_helps(path, notebook):
    asked = notebook["metadata"].get("accelerator") == "GPU" and "gpuType" in notebook[
        "metadata"
    ].get("colab", {})
    assert asked == (path.stem in GPU)


def test_training_ends_with_its_metrics():
    notebook = read(ROOT / "notebooks" / "04_train.ipynb")
    code = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    assert [("metrics" in tags(c)) for c in code] == [False] * (len(code) - 1) + [True]
    (output,) = code[-1]["outputs"]
    (line,) = "".join(output["text"]).splitlines()
    metrics = json.loads(line)
    assert {"visdial", "seconds", "device"} <= metrics.keys()
    rows = {"TextOnly", "TextOnlyPrompt", "ImageOnly", "FixedWeight", "DAR", "AdaFuSE"}
    assert rows | {"AdaFuSETextText", "AdaFuSETextPrompt"} <= metrics["visdial"].keys()
    for name, row in metrics["visdial"].items():
        assert len(row["hits@10"]) == len(row["recall@10"]) == 11, name
        assert row["hits@10"] == sorted(row["hits@10"]), f"{name}: Hits@10 never falls"


def run_setup_cell(monkeypatch, here):
    """What the set-up cell asks of IPython; `here`: whether the package is there already."""
    import importlib.util
    import os

    from IPython.core.inputtransformer2 import TransformerManager

    asked = []

    class Shell:
        def system(self, line):
            asked.append(line)

        def run_line_magic(self, name, line):
            asked.append(f"%{name} {line}")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if here else None)
    python = TransformerManager().transform_cell(setup_cell())
    exec(python, {"get_ipython": Shell, "os": os})
    return asked


def test_setup_cell_does_nothing_elsewhere(monkeypatch):
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    assert run_setup_cell(monkeypatch, here=False) == []


def test_setup_cell_installs_once_in_colab(monkeypatch):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    clone, change, need, package = run_setup_cell(monkeypatch, here=False)
    assert clone.startswith("git clone") and clone.split()[-2].startswith("https://github.com/")
    assert change == "%cd -q /content/adafuse-lite/notebooks"
    assert need == "%pip install -q open_clip_torch"
    assert package == "%pip install -q --no-deps /content/adafuse-lite"
    assert run_setup_cell(monkeypatch, here=True) == []


def test_setup_cell_has_no_address_of_its_own():
    assert "https://" not in SETUP_CELL
    assert all(not MAGIC.match(line) or line.startswith("    ") for line in SETUP_CELL.split("\n"))
