"""Measure every row for both sides, in turn, and write the table."""

import argparse
import datetime
import os
import platform
import sys
from pathlib import Path

from benchmarks.rows import ROWS, Row, shown
from benchmarks.sides import ROOT, Side, headrace, prefect

RESULTS = ROOT / "benchmarks" / "RESULTS.md"


def measured(row: Row, side: Side) -> float | None:
    """A row's figure for a side; None, with the reason printed, when it could not be had."""
    try:
        return row.measure(side)
    except Exception as error:  # noqa: BLE001  one row that fails must not cost the others
        print(f"  {side.name}: {type(error).__name__}: {error}", file=sys.stderr)
        return None


def line(row: Row, ours: float | None, theirs: float | None) -> str:
    """A row of the Markdown table."""
    ratio = f"{row.ratio(ours, theirs):.1f}×" if ours and theirs else ""
    verdict = "" if ours is None else ("met" if row.met(ours, theirs) else "**missed**")
    return (
        f"| {row.name} | {shown(theirs, row.unit)} | {shown(ours, row.unit)} | {ratio} | {row.wanted()} | {verdict} |"
    )


def heading() -> list[str]:
    """What was measured, where and when."""
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return [
        "# Benchmarks",
        "",
        f"Measured on {datetime.date.today().isoformat()}, {machine}, both sides in turn in one run of `make bench`.",
        "Prefect is 3.8.8 with `fastapi==0.141.1` and `sqlalchemy<2.1`, each side in an environment of its own.",
        "Times are medians. Clients run on the same machine and take their share of its cores: Prefect's own client is",
        "busy with a call for longer than headrace's server, so the rates it gets are its own, and the CPU that the",
        "server takes for a call tells more.",
        "",
        "| | Prefect 3.8.8 | headrace | ratio | budget | |",
        "|---|---|---|---|---|---|",
    ]


def main() -> int:
    """Run; the exit code is 1 when a budget was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=["headrace", "prefect"], help="measure one side; the table is not written")
    parser.add_argument("--rows", help="only rows whose name holds this text; the table is not written")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the table goes")
    options = parser.parse_args()
    sides = {side.name: side for side in (headrace(), *(() if options.only == "headrace" else (prefect(),)))}
    lines, missed = heading(), 0
    for row in ROWS:
        if options.rows and options.rows.lower() not in row.name.lower():
            continue
        theirs = measured(row, sides["prefect"]) if options.only != "headrace" else None
        ours = measured(row, sides["headrace"]) if options.only != "prefect" else None
        missed += ours is None or not row.met(ours, theirs)
        lines.append(line(row, ours, theirs))
        print(lines[-1], flush=True)
    if not options.only and not options.rows:
        options.output.write_text("\n".join(lines) + "\n")
    return 1 if missed and options.only != "prefect" else 0


if __name__ == "__main__":
    sys.exit(main())
