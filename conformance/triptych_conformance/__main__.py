"""Shows the largest fractions of their tolerance in files that TRIPTYCH_TOLERANCES made.

    python -m triptych_conformance FILE... [--top 20] [--at-most 0.5]

Exits with status 1 if one is above `--at-most`, or if there is none.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m triptych_conformance", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--top", type=int, default=20)
    parser.add_argument("--at-most", type=float, default=0.5)
    options = parser.parse_args(arguments)
    records = [json.loads(line) for file in options.files for line in file.read_text().splitlines()]
    records.sort(key=lambda record: -record["fraction"])
    tests = len({record["test"] for record in records})
    print(f"{len(records)} comparisons in {tests} tests; the largest fractions of their tolerances:")
    for record in records[: options.top]:
        numbers = f"{record['fraction']:8.3f}  {record['difference']:.2e} of {record['tolerance']:.2e}"
        print(f"{numbers}  {record['test']} {record['what']}".rstrip())
    return 0 if records and records[0]["fraction"] <= options.at_most else 1


if __name__ == "__main__":
    sys.exit(main())
