"""What is around the code: packaging, the environment file, README, CI, and what is tracked."""

import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import notebook_kit
import pytest
import run_notebooks
import yaml
from notebook_kit import ROOT, readme_command
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
README = (ROOT / "README.md").read_text(encoding="utf-8")

COLAB = (ROOT / "tests" / "tools" / "colab.txt").read_text(encoding="utf-8").splitlines()[1:]

# conda-forge's name, where it is not the one on the Python index
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}

PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin", ".joblib", ".npy"}
MACHINE_PATH = re.compile(
    r"(?<![\w.:/])/(?:home|root|tmp|work|Users|opt|mnt|var/folders)/[\w.-]+|\b[A-Z]:\\+Users\\"
)


def requirements():
    """Everything that pyproject.toml asks for, by name."""
    extra = PROJECT["optional-dependencies"].values()
    lines = PROJECT["dependencies"] + [line for group in extra for line in group]
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


# --- pyproject.toml -------------------------------------------------------------------------------


def test_each_requirement_has_one_lower_bound():
    for name, requirement in requirements().items():
        assert [s.operator for s in requirement.specifier] == [">="], name


def test_bounds_contain_what_colab_has():
    assert len(COLAB) == 14
    for line in COLAB:
        name, version = line.split("==")
        assert requirements()[canonicalize_name(name)].specifier.contains(version), line


def test_any_python_from_3_11_on_will_do():
    supported = SpecifierSet(PROJECT["requires-python"])
    assert not supported.contains("3.10.14")
    assert all(supported.contains(v) for v in ("3.11.0", "3.12.13", "3.13.15", "3.14.0"))


def test_the_license_is_mit():
    assert PROJECT["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")


def test_the_public_address_is_in_one_place():
    """Badges and set-up cells are compared in lessons/test_hygiene.py;
    here: no other file has it."""
    assert re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", notebook_kit.address())
    for path, text in tracked_texts():
        if path.suffix == ".ipynb" or path.name == "pyproject.toml":
            text = text.replace(notebook_kit.address(), "")
            text = text.replace(f"/github/{notebook_kit.slug()}/blob/main/notebooks/", "")
        assert notebook_kit.slug() not in text, path


def test_a_new_address_goes_everywhere(tmp_path, monkeypatch):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "notebooks").mkdir()
    page = tmp_path / "notebooks" / "x.ipynb"
    page.write_text(notebook_kit.badge("x") + notebook_kit.setup_cell(), encoding="utf-8")
    monkeypatch.setattr(notebook_kit, "ROOT", tmp_path)
    notebook_kit.change_address("https://github.com/someone/their-name.git")
    assert notebook_kit.slug() == "someone/their-name"
    expected = notebook_kit.badge("x") + notebook_kit.setup_cell()
    assert page.read_text(encoding="utf-8") == expected and "someone/their-name" in expected
    with pytest.raises(SystemExit, match="not an address"):
        notebook_kit.change_address("their-name")


# --- environment.yml ------------------------------------------------------------------------------


def test_environment_agrees_with_pyproject():
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    environment = yaml.safe_load(text)
    assert environment["name"] == PROJECT["name"]
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    *packages, last = environment["dependencies"]
    assert last == {"pip": ["-e .[dev]"]} and "pip" in packages
    known = requirements()
    for line in packages:
        name, _, bound = re.fullmatch(r"([\w-]+)(([<>=]+.*)?)", line).groups()
        if name == "python":
            assert SpecifierSet(PROJECT["requires-python"]).contains(bound.lstrip("="))
        else:
            requirement = known[canonicalize_name(CONDA_NAMES.get(name, name))]
            assert not bound or SpecifierSet(bound) == requirement.specifier, line
    assert {"pytorch", "torchvision"} <= {re.split("[<>=]", p)[0] for p in packages}


def test_environment_says_what_each_line_is_for():
    lines = (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines()
    bare = [x for x in lines if x.lstrip().startswith("- ") and not re.search(r"\S  # \w", x)]
    assert bare == ["  - pip:"]


# --- README, CI -----------------------------------------------------------------------------------


def test_readme_commands_bring_their_own_environment():
    train, test = readme_command("try"), readme_command("test")
    for line in (train, test):
        assert line.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert train.endswith(" && .venv/bin/papermill notebooks/04_train.ipynb out.ipynb")
    assert '-e ".[dev]"' in test and test.endswith("pytest --nbval notebooks")


def test_ci_runs_the_command_of_the_readme():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "notebook_kit.py steps test" in script and "run_notebooks.py" in script
    code = "\n".join(x for x in script.splitlines() if not x.lstrip().startswith("#"))
    assert "pip install" not in code and "pytest" not in code  # only the README says how
    assert "set -euo pipefail" in code
    assert subprocess.run(["bash", "-n", ROOT / ".ci" / "run"]).returncode == 0
    assert (ROOT / ".ci" / "run").stat().st_mode & stat.S_IXUSR


def test_ci_begins_with_what_fails_fastest():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    order = ["steps[1]", "ruff check", "ruff format", "steps[2]", "steps[3]", "run_notebooks.py"]
    places = [script.index(step) for step in order]
    assert places == sorted(places)


def test_the_readmes_command_comes_in_steps():
    kit = ROOT / "tests" / "tools" / "notebook_kit.py"
    command = [sys.executable, kit, "steps", "test"]
    steps = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert " && ".join(steps) == readme_command("test") and len(steps) == 4


def test_workflow_runs_the_same_script():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    assert workflow["concurrency"]["cancel-in-progress"] is True
    assert list(workflow["jobs"]) == ["fast", "notebooks"]
    assert workflow["jobs"]["notebooks"]["needs"] == "fast"
    for name, job in workflow["jobs"].items():
        assert [s["run"] for s in job["steps"] if "run" in s] == [f".ci/run {name}"]
        (python,) = [s["with"] for s in job["steps"] if "setup-python" in s.get("uses", "")]
        assert python["cache"] == "pip"


def test_pre_commit_checks_and_formats():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [hook["id"] for repo in config["repos"] for hook in repo["hooks"]] == [
        "ruff-check",
        "ruff-format",
    ]


def test_readme_is_short_and_its_links_lead_somewhere():
    assert len(README.splitlines()) <= 150
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", README):
        if not re.match(r"https?:", target):
            assert (ROOT / target).exists(), target


def test_readme_maps_every_notebook():
    for path in notebook_kit.notebooks():
        assert f"(notebooks/{path.name})" in README, path.name


def test_smallest_parameters_are_read_from_remarks():
    cell = {
        "metadata": {"tags": ["parameters"]},
        "source": [
            "seed = 0  # of everything\n",
            "steps = 600  # how long to train (smallest: 20)\n",
            'style = "visdial"  # (smallest: "flan_blip2")',
        ],
    }
    found = notebook_kit.smallest_parameters({"cells": [{"source": [], "metadata": {}}, cell]})
    assert found == {"steps": 20, "style": "flan_blip2"}


# --- what is tracked ------------------------------------------------------------------------------


def tracked():
    """The files under version control; in an unpacked archive, the files that would be."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.split("\0") if (ROOT / name).is_file()]
    made = {".venv", "venv", ".nox", "mutants", "build", "dist", "runs", "__pycache__"}
    found = []
    for folder, inside, files in os.walk(ROOT):
        inside[:] = [d for d in inside if d not in made and not d.endswith(("_cache", ".egg-info"))]
        found += [Path(folder, name) for name in files]
    return found


def tracked_texts():
    for path in tracked():
        try:
            yield path, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def test_no_pickle_is_tracked():
    assert not [p for p in tracked() if p.suffix in PICKLES]


def test_no_leftovers_are_tracked():
    for path in tracked():
        assert not {"__pycache__", ".ipynb_checkpoints"} & set(path.parts), path


def test_tracked_files_are_small():
    assert not [p for p in tracked() if p.stat().st_size > 16e6]


@pytest.mark.parametrize(("kind", "megabytes"), [("models", 20), ("banks", 40), (".", 60)])
def test_bundled_data_keeps_its_budget(kind, megabytes):
    folder = ROOT / "adafuse_lite" / "postcards" / "data" / kind
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) <= megabytes * 2**20


def test_no_file_names_a_folder_of_a_machine():
    for path, text in tracked_texts():
        assert not (found := MACHINE_PATH.search(text)), f"{path}: {found.group()}"


# --- the wheel ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel, built from a copy so that the checkout stays as it is."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    left_out = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "adafuse_lite", folder / "adafuse_lite", ignore=left_out)
    pip_wheel = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip_wheel, "--no-index", "-w", folder, folder], check=True)
    (found,) = folder.glob("*.whl")
    return found


def test_wheel_holds_the_package_and_its_data(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    package = [p for p in (ROOT / "adafuse_lite").rglob("*") if p.is_file()]
    wanted = {p.relative_to(ROOT).as_posix() for p in package if "__pycache__" not in p.parts}
    assert wanted <= inside
    assert {name.split("/")[0] for name in inside - wanted} == {"adafuse_lite-0.1.0.dist-info"}


def test_training_runs_from_an_installed_wheel_elsewhere(wheel, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", site, wheel], check=True)
    # a copy of the notebook: from where it lies no way leads to the checkout
    notebook = Path(shutil.copy(ROOT / "notebooks" / "04_train.ipynb", tmp_path))
    parameters = notebook_kit.smallest_parameters(notebook_kit.read(notebook))
    env = run_notebooks.environment() | {"PYTHONPATH": str(site)}
    ask = [sys.executable, "-c", "import adafuse_lite; print(adafuse_lite.__file__)"]
    found = subprocess.run(ask, cwd=elsewhere, env=env, check=True, capture_output=True, text=True)
    assert Path(found.stdout.strip()).is_relative_to(site)
    out = elsewhere / "out.ipynb"
    run = run_notebooks.papermill(notebook, out, parameters, elsewhere, env, timeout=300)
    assert run.returncode == 0, run.stdout[-3000:]
    assert any("metrics" in notebook_kit.tags(c) for c in notebook_kit.read(out)["cells"])


def test_the_results_in_the_readme_are_those_of_04_train():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = readme.split("<!-- results:")[1].split("<!-- end of results -->")[0]
    rows = [line for line in block.splitlines() if line.startswith("|")]
    cells = notebook_kit.read(ROOT / "notebooks" / "04_train.ipynb")["cells"]
    printed = "".join(
        "".join(o.get("data", {}).get("text/markdown", "")) + "\n"
        for c in cells
        for o in c.get("outputs", [])
    )
    assert len(rows) >= 8
    for row in rows:
        assert row in printed.splitlines(), row
