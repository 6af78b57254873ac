"""How fast it is, against what people use today: prints a table, writes results.json,
figures/speed.png and the short table in tests/README.md.

python tests/benchmarks/run.py                        all, some 25 minutes; leave the machine alone
python tests/benchmarks/run.py --only protocol head   some; what was measured of the others stays
python tests/benchmarks/run.py --quick                tiny sizes: does it run? Writes only to --out
"""

import argparse
import json
from datetime import date
from importlib import import_module
from pathlib import Path

from measure import machine

HERE = Path(__file__).resolve().parent
PARTS = {
    "protocol": "Protocol: ranks of 2,064 x 11 queries among 50,000 pictures of 256 numbers",
    "head": "Head at published sizes (256, 512, 2,048, 4 experts)",
    "banks": "Building the bank of Postcards",
    "notebooks": "Notebooks as they stand",
    "growth": "Growth: slope of log time over log size",
    "gpu": "Training on a GPU: 50,000 pictures, 100,000 x 11 texts and drawings, 256 numbers each",
}

# In tests/README.md stand all rows with a goal, and these.
ALSO = (
    "argsort, peak memory above features",
    "ranks, peak memory above features",
    "corpus, bare product",
    "to the first picture",
)
BEGIN, END = "<!-- written by tests/benchmarks/run.py -->", "<!-- until here -->"


def number(x):
    return "" if x is None else f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def table(name, part):
    """A part as lines of Markdown."""
    facts = ", ".join(f"{k} {v}" for k, v in part["machine"].items())
    lines = [
        f"\n**{PARTS[name]}** ({part['date']}; {facts})\n",
        "| | median | min .. max | runs | goal | |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in part["rows"]:
        spread = f"{number(row['min'])} .. {number(row['max'])}" if row["runs"] > 1 else ""
        lines.append(
            f"| {row['what']} | {number(row['median'])} {row['unit']} | {spread} "
            f"| {row['runs'] or ''} | {row['goal']} | {row['verdict']} |"
        )
    return "\n".join(lines)


def short_table(results):
    """The rows that have a goal, and a few others, of all parts."""
    lines = ["| | median | min .. max | goal | |", "| --- | --- | --- | --- | --- |"]
    for part in results.values():
        for row in part["rows"]:
            if row["goal"] or any(piece in row["what"] for piece in ALSO):
                spread = f"{number(row['min'])} .. {number(row['max'])}" if row["runs"] > 1 else ""
                verdict = f"**{row['verdict']}**" if row["verdict"] == "missed" else row["verdict"]
                median = f"{number(row['median'])} {row['unit']}"
                cells = (row["what"], median, spread, row["goal"], verdict)
                lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def with_table(page, results):
    """The page with the short table between its two marks."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{short_table(results)}\n\n{END}{rest.split(END)[1]}"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, a few seconds, numbers without meaning"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=PARTS,
        default=list(PARTS),
        metavar="PART",
        help=", ".join(PARTS),
    )
    parser.add_argument(
        "--out", type=Path, help="write results.json and speed.png into this folder instead"
    )
    args = parser.parse_args(arguments)

    results, figures = HERE, HERE.parent.parent / "figures"
    if args.out or args.quick:
        results = figures = args.out
    found = {}
    if results and (results / "results.json").exists():
        found = json.loads((results / "results.json").read_text(encoding="utf-8"))
    for name in args.only:
        facts = machine()
        rows = [row.record() for row in import_module(name).measure(args.quick)]
        found[name] = {"date": str(date.today()), "machine": facts, "rows": rows}
        print(table(name, found[name]), flush=True)
        if results:
            results.mkdir(parents=True, exist_ok=True)
            ordered = {part: found[part] for part in PARTS if part in found}
            (results / "results.json").write_text(
                json.dumps(ordered, indent=1) + "\n", encoding="utf-8"
            )
    if results:
        from figure import draw

        draw(found, figures / "speed.png")
    if results == HERE:
        page = HERE.parent / "README.md"
        page.write_text(with_table(page.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()
