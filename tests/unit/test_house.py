"""How the package is laid out: who imports whom, how long things are, and that all is formatted."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter

import pytest
from notebook_kit import ROOT, notebooks, read, source

import adafuse_lite

PACKAGE = ROOT / "adafuse_lite"
FILES = sorted(PACKAGE.rglob("*.py"))
PATH = ("benchmark", "encoders", "generators", "bank", "fusion", "train", "search", "metrics")
ON_THE_PATH = [p for p in FILES if p.relative_to(PACKAGE).with_suffix("").parts[0] in PATH]
OF_A_WORLD = ("postcards", "game")  # rooms beside the path
COLUMNS = 100


def name_of(path):
    """The dotted name of a module of the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}
ROOMS = {name: f"adafuse_lite.{room}" for name, room in adafuse_lite._ROOM_OF.items()}


def lines(path):
    return path.read_text(encoding="utf-8").splitlines()


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(name, path):
    """The package's modules that a module imports, at its top or inside a function."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above * bool(node.level), *filter(None, [node.module])])
            for alias in node.names:
                module = f"{base}.{alias.name}"
                if module not in MODULES:  # a name inside a module, or one of the front door
                    module = ROOMS.get(alias.name) if base == "adafuse_lite" else base
                if module in MODULES:
                    yield module


def test_nobody_imports_in_a_circle():
    graph = {name: set(imported(name, path)) - {name} for name, path in MODULES.items()}
    assert "adafuse_lite.bank" in graph["adafuse_lite.build"]  # the graph is not empty
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def words(path):
    """Names and texts in a file's code, without docstrings: (line, word)."""
    tree = parsed(path)
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in docstrings:
                yield node.lineno, node.value
        for field in ("id", "attr", "arg", "name", "module"):
            if isinstance(getattr(node, field, None), str):
                yield getattr(node, "lineno", 0), getattr(node, field)


def test_the_core_knows_no_world():
    """Postcards is a name in one table, `names`; the page that says what can be run may link it."""
    allowed = (PACKAGE / "names.py", PACKAGE / "__main__.py")
    core = [p for p in FILES if p.relative_to(PACKAGE).parts[0] not in OF_A_WORLD]
    told = [
        f"{path.name}:{line}: {word[:60]}"
        for path in core
        if path not in allowed
        for line, word in words(path)
        if "postcard" in word.lower()
    ]
    assert not told, told


def test_the_core_imports_no_world():
    for name, path in MODULES.items():
        if name.split(".")[1:2] and name.split(".")[1] not in OF_A_WORLD:
            worlds = [m for m in imported(name, path) if m.split(".")[1:2][0] in OF_A_WORLD]
            assert not worlds, (name, worlds)


def test_the_path_and_the_package_stay_small():
    assert sum(len(lines(p)) for p in ON_THE_PATH) <= 1_500
    assert sum(len(lines(p)) for p in FILES) <= 5_200


def test_functions_on_the_path_are_short():
    long = [
        f"{path.name}: {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for path in ON_THE_PATH
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno + 1 > 40
    ]
    assert not long, long


def test_no_line_is_longer_than_a_screen():
    texts = {p: lines(p) for p in [*FILES, *(ROOT / "tests").rglob("*.py"), *ROOT.glob("*.py")]}
    for path in notebooks():
        code = [source(c) for c in read(path)["cells"] if c["cell_type"] == "code"]
        texts[path] = "\n".join(code).splitlines()
    long = [
        f"{path.relative_to(ROOT)}: {line[:60]}"
        for path, held in texts.items()
        for line in held
        if len(line) > COLUMNS
    ]
    assert not long, f"{len(long)} lines beyond {COLUMNS} columns: {long[:10]}"


def test_no_formatter_is_switched_off():
    for path in [*FILES, *(ROOT / "tests").rglob("*.py")]:
        if path.name != "test_house.py":
            text = path.read_text(encoding="utf-8")
            assert "# fmt:" not in text and "noqa: E501" not in text, path


@pytest.mark.parametrize("check", ["check --output-format=concise", "format --check"])
def test_the_code_is_tidy(check):
    command = [sys.executable, "-m", "ruff", *check.split(), "--no-cache", "."]
    ruff = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ruff.returncode == 0, ruff.stdout[-3000:] + ruff.stderr
