"""Mutation testing: one small mistake at a time is put into the package, and the tests must notice.

    python tests/tools/mutation.py                  fusion, metrics, benchmark, sources: about half an hour on two cores
    python tests/tools/mutation.py metrics          one of them
    python tests/tools/mutation.py metrics 17       the test run of one mutant, with its output

A mutant is a comparison turned round, a plus for a minus, a number off by one, a condition negated, "and" for "or", a
returned value or a statement left out. Texts of error messages, docstrings and annotations are left alone. Every mutant runs
in a child process that has PyTorch loaded already, so it costs the tests' own time only, up to the first failure.
"""

import ast
import contextlib
import importlib.util
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from notebook_kit import ROOT

TARGETS = {  # module -> the tests that must notice
    "fusion": ["test_fusion.py", "hard/test_properties.py"],
    "metrics": ["test_metrics.py", "hard/test_properties.py"],
    "benchmark": ["test_benchmark.py", "test_real_models.py"],
    "sources": ["test_real_models.py", "hard/test_fuzz.py"],
}
UNTIMED = "not quicker and not memory and not saved_dataset and not offline and not two_processes"  # tests that a busy machine may fail, or that are slow
LIMIT = 240  # seconds for a mutant's tests: one that hangs is caught, too
SWAPS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.MatMult: ast.Add,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}


def sites(tree):
    """Every place that can be mutated: (node, what is done to it), in the order of the file."""
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            child.parent = node
    left_alone = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise | ast.JoinedStr):  # what an error says is for people
            left_alone.update(map(id, ast.walk(node)))
        if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None:
            left_alone.update(map(id, ast.walk(node.annotation)))
    for node in ast.walk(tree):
        if id(node) in left_alone:
            continue
        if isinstance(node, ast.Compare):
            yield from ((node, ("ops", i)) for i, op in enumerate(node.ops) if type(op) in SWAPS)
        elif isinstance(node, ast.BoolOp | ast.BinOp | ast.AugAssign) and type(node.op) in SWAPS:
            yield node, ("op", None)
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
            yield node, ("value", node.value + 1)
        elif isinstance(node, ast.Constant) and type(node.value) is bool:
            yield node, ("value", not node.value)
        elif isinstance(node, ast.If | ast.IfExp | ast.While):
            yield node, ("test", None)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.Invert):
            yield node, ("operand", None)
        elif isinstance(node, ast.Return) and node.value is not None:
            yield node, ("return", None)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield node, ("statement", None)


def mutate(source, number):
    """The source with one mistake, and what it is; without a number, the source as it is."""
    tree = ast.parse(source)
    if number is None:
        return source, "no mistake"
    node, (kind, more) = list(sites(tree))[number]
    before = ast.unparse(node).splitlines()[0]
    if kind == "ops":
        node.ops[more] = SWAPS[type(node.ops[more])]()
    elif kind == "op":
        node.op = SWAPS[type(node.op)]()
    elif kind == "value":
        node.value = more
    elif kind == "test":
        node.test = ast.UnaryOp(ast.Not(), node.test)
    elif kind == "return":
        node.value = ast.Constant(None)
    elif kind == "statement":
        node.value = ast.Constant(None)
    else:  # an operand without its sign or "not"
        plain = node.operand
        for name, value in ast.iter_fields(node.parent):
            if value is node:
                setattr(node.parent, name, plain)
            elif isinstance(value, list):
                setattr(node.parent, name, [plain if x is node else x for x in value])
        node = plain
    ast.fix_missing_locations(tree)
    return (
        ast.unparse(tree),
        f"line {node.lineno}: {before[:70]}  ->  {ast.unparse(node).splitlines()[0][:70] or 'nothing'}",
    )


def child(module, number, show):
    """In a forked process: put the mutant in the module's place and run the tests. Exit code 0: nobody noticed."""
    import pytest

    path = ROOT / "adafuse_lite" / f"{module}.py"
    mutant, what = mutate(path.read_text(encoding="utf-8"), number)
    name = f"adafuse_lite.{module}"

    class Mutant:
        """A finder that gives the mutant's source for the one module."""

        def find_spec(self, wanted, path=None, target=None):
            return (
                importlib.util.spec_from_loader(name, self, origin=str(path))
                if wanted == name
                else None
            )

        def create_module(self, spec):
            return None

        def exec_module(self, made):
            made.__file__ = str(ROOT / "adafuse_lite" / f"{module}.py")
            exec(compile(mutant, made.__file__, "exec"), made.__dict__)

    sys.meta_path.insert(0, Mutant())
    if show:
        print(what)
    quiet = [] if show else ["-q", "--no-header", "--no-summary"]
    tests = [str(ROOT / "tests" / t) for t in TARGETS[module] if (ROOT / "tests" / t).exists()]
    with open(os.devnull, "w") as nowhere, contextlib.ExitStack() as stack:
        if not show:
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        return int(
            pytest.main(
                [
                    *quiet,
                    "-x",
                    "-k",
                    UNTIMED,
                    "-p",
                    "no:cacheprovider",
                    "--rootdir",
                    str(ROOT),
                    *tests,
                ]
            )
        )


def run(module, number, show=False):
    """One mutant -> (caught, what it was)."""
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        try:
            code = child(module, number, show)
        except BaseException:  # a module that cannot even be imported is noticed by everybody
            code = 1
        os._exit(code)
    deadline, code = time.monotonic() + LIMIT, None
    while code is None and time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        code = os.waitstatus_to_exitcode(status) if done else time.sleep(0.05)
    if code is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        code = -1
    return code != 0


def main():
    os.environ["OMP_NUM_THREADS"] = "1"  # a process that has used threads must not be forked
    os.chdir(ROOT)
    for library in (
        "torch",
        "open_clip",
        "diffusers",
        "transformers",
        "datasets",
        "hypothesis",
        "seaborn",
        "accelerate",
    ):
        importlib.import_module(library)
    sys.path[:0] = [str(ROOT / "tests" / "tools"), str(ROOT / "tests" / "unit")]
    sys.modules.pop("adafuse_lite", None)
    modules = [a for a in sys.argv[1:] if not a.isdigit()] or list(TARGETS)
    single = [int(a) for a in sys.argv[1:] if a.isdigit()]
    total = missed = 0
    for module in modules:
        source = (ROOT / "adafuse_lite" / f"{module}.py").read_text(encoding="utf-8")
        numbers = single or range(len(list(sites(ast.parse(source)))))
        if run(module, None):
            sys.exit(f"the tests of {module} fail without any mutant; mend that first")
        with ThreadPoolExecutor(1 if single else 2) as pool:
            caught = list(pool.map(lambda n: run(module, n, bool(single)), numbers))  # noqa: B023
        for n, seen in zip(numbers, caught):
            if not seen:
                print(f"  survived: {module} {n}, {mutate(source, n)[1]}", flush=True)
        total, missed = total + len(caught), missed + caught.count(False)
        print(f"{module}: {caught.count(True)} of {len(caught)} mutants caught", flush=True)
    print(f"all: {total - missed} of {total} caught, {100 * (total - missed) / total:.1f} %")


if __name__ == "__main__":
    main()
