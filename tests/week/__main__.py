"""``python -m tests.week``: a week of production in an hour, and its report."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from tests.support.postgresql import Cluster
from tests.week.run import Asked, live

#: The commit of release 0.2.0.
PREVIOUS = "c8feefc"


def main() -> int:
    """The exit status: 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.week", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0, help="how long the week is (3600)")
    parser.add_argument("--seed", type=int, default=1, help="pushes and random faults follow from it (1)")
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="postgresql")
    parser.add_argument("--previous", default=PREVIOUS, help=f"the release before the upgrade ({PREVIOUS})")
    asked = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # each ends all that was started
        signal.signal(number, signal.default_int_handler)
    begun = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - begun:7.1f} s  {text}", flush=True)

    with (
        tempfile.TemporaryDirectory(prefix="bridge-week-") as folder,
        Cluster() if asked.store == "postgresql" else nullcontext() as cluster,
    ):
        report = live(Path(folder), cluster, Asked(asked.seconds, asked.seed, asked.previous), tell)
    print(report, flush=True)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
