"""The benchmarks, each beside its peer in the same run; ratio > 1 when we are the better.

make bench                         a table
make bench BENCH=--json            one JSON object
make bench BENCH="--only decode"   one subject
"""

import argparse
import importlib
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.measure import SEED, Result

# subject -> a module of this folder; its `benchmarks()` yields Results,
SUBJECTS = ("decode", "decode_command", "logs", "socketcan", "replay", "monitor", "estimate", "sim")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--only", choices=SUBJECTS, action="append", help="only this subject")
    arguments = parser.parse_args()
    print(f"seed {SEED}", file=sys.stderr)
    results: list[Result] = []
    for subject in arguments.only or SUBJECTS:
        print(f"measuring {subject} ...", file=sys.stderr)
        for result in importlib.import_module(f"bench.{subject}").benchmarks():
            results.append(result)
            if not arguments.json:
                print(line(result), flush=True)
    if arguments.json:
        print(json.dumps({"results": [r._asdict() for r in results]}))


def line(r: Result) -> str:
    """One result for people."""
    wanted = "" if r.must is None else f"  must {r.must:g}" + ("" if r.aim is None else f", aim {r.aim:g}")
    return f"{r.name:<44} {r.value:>10.4g} {r.unit:<10} {r.ratio:>8.3g} x {r.peer}{wanted}"


if __name__ == "__main__":
    main()
