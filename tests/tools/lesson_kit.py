"""Takes definitions and exercises out of the stored notebooks,
so that tests can run them without the rest.

An exercise is a code cell tagged `exercise`: functions to complete, a function `check_NAME` that
takes the reader's function and returns "right" or a sentence on what is wrong, and a line that
prints its word. The solution is the ```python block in the folded `<summary>Solution</summary>` of
the next text cell.
"""

import ast

from notebook_kit import ROOT, read, source, tags


def cells(name):
    return read(ROOT / "notebooks" / f"{name}.ipynb")["cells"]


def is_python(cell):
    lines = source(cell).splitlines()
    return cell["cell_type"] == "code" and not any(
        line.lstrip()[:1] in ("%", "!") for line in lines
    )


def definitions(name):
    """Imports, functions, classes and plain constants of a notebook,
    by name; nothing else of it is run."""
    kept = []
    for cell in filter(is_python, cells(name)):
        for node in ast.parse(source(cell)).body:
            if isinstance(node, (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef)):
                kept.append(node)
            elif isinstance(node, ast.Assign):
                try:
                    ast.literal_eval(node.value)
                except ValueError:
                    continue
                kept.append(node)
    names = {}
    exec(compile(ast.Module(kept, []), name, "exec"), names)
    return names


def exercises(name):
    """For each exercise: (name of the function to complete, check, solution as source)."""
    found, all_cells = [], cells(name)
    for place, cell in enumerate(all_cells):
        if "exercise" not in tags(cell):
            continue
        defined = [n.name for n in ast.parse(source(cell)).body if isinstance(n, ast.FunctionDef)]
        (check,) = [n for n in defined if n.startswith("check_")]
        folded = next(
            c
            for c in all_cells[place + 1 :]
            if c["cell_type"] == "markdown" and "<summary>Solution" in source(c)
        )
        code = source(folded).split("<summary>Solution")[1].split("```python\n")[1].split("```")[0]
        assert "<summary>Hint" in source(folded), f"{name}: {check} has no hint"
        found.append((next(n for n in defined if not n.startswith("check_")), check, code))
    return found


def try_exercises(name, wrong):
    """Run every exercise of a notebook:
    the stub and all wrong answers are refused with a reason, the solution passes.

    wrong: {function to complete: list of typical wrong answers}, at least two for each exercise.
    """
    found = exercises(name)
    assert {function for function, *_ in found} == wrong.keys()
    for function, check, solution in found:
        names = definitions(name)
        assert len(wrong[function]) >= 2, function
        told = set()
        for answer in (names[function], *wrong[function]):
            word = names[check](answer)
            assert isinstance(word, str) and word != "right" and len(word) > 20, (
                function,
                answer,
                word,
            )
            told.add(word)
        assert len(told) > 1, f"{check}: says the same to every wrong answer"
        exec(solution, names)
        assert names[check](names[function]) == "right", function
