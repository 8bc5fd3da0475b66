"""``python -m tests.chaos``: run after run with new seeds, until the time is over or a promise is broken."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

from tests.chaos.run import Report, run
from tests.chaos.schedule import What
from tests.support.postgresql import Cluster

STORES = ("sqlite", "postgresql")


def main() -> int:
    """The exit status: 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0, help="how long in all (3600)")
    parser.add_argument("--seed", type=int, default=1, help="of the first run; the next has the next (1)")
    parser.add_argument("--store", choices=STORES, help="only this one; default: they take turns")
    parser.add_argument(
        "--round", type=float, default=120.0, help="how long one run is broken, seconds (120)"
    )
    parser.add_argument("--go-on", action="store_true", help="do not end with the first broken promise")
    asked = parser.parse_args()
    stores = (asked.store,) if asked.store else STORES
    happened: Counter[What] = Counter()
    survived: Counter[What] = Counter()
    broken = 0
    begun = time.monotonic()
    seed = asked.seed
    while time.monotonic() - begun < asked.seconds and (asked.go_on or not broken):
        store = stores[(seed - asked.seed) % len(stores)]
        left = asked.seconds - (time.monotonic() - begun)
        seconds = max(20.0, min(asked.round, left))
        _say(f"--seed {seed} --store {store} --seconds {seconds:.0f} --round {seconds:.0f}")
        report = _once(store, seed, seconds)
        _say(str(report))
        happened += report.happened
        if report.violations:
            broken += 1
        else:
            survived += report.happened
        seed += 1
    _say(table(happened, survived))
    _say(f"{seed - asked.seed} runs, {broken} with a broken promise")
    return 1 if broken else 0


def table(happened: Counter[What], survived: Counter[What]) -> str:
    """How often what happened, and how often with every promise kept."""
    width = max(map(len, What))
    lines = [f"{'':{width}}  times  survived"]
    lines += [f"{what:{width}}  {count:5}  {survived[what]:8}" for what, count in sorted(happened.items())]
    return "\n".join(lines)


def _once(store: str, seed: int, seconds: float) -> Report:
    with (
        tempfile.TemporaryDirectory(prefix="bridge-chaos-") as folder,
        Cluster(fsync=False) if store == "postgresql" else nullcontext() as cluster,
    ):
        return run(Path(folder), cluster, seed, seconds, _say)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
