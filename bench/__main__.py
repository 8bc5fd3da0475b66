"""``python -m bench``: compare the bridge with other receivers, and write RESULTS.md."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.machine import machine
from bench.processes import StartFailed
from bench.report import report
from bench.round import ask, warm_up
from bench.sample import Sample
from bench.targets import Target, make_targets

RESULTS = Path(__file__).parent / "RESULTS.md"

#: The commit of 0.1.0.
BASE = "cb46e5d"

#: The end of the names of targets with delivery off: they run with the target that delivers.
OFF = "-off"

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> None:
    """Run the bench. Ctrl-C, SIGTERM and SIGHUP stop all that it started."""
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler)
    stack = ExitStack()
    try:
        folder = Path(tempfile.mkdtemp(prefix="bridge-bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        page = run(folder, stack)
    except KeyboardInterrupt:
        sys.exit("bench: interrupted")
    finally:
        # A second Ctrl-C would leave processes behind.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        stack.close()
    RESULTS.write_text(page)
    print(page)


def run(folder: Path, stack: ExitStack) -> str:
    """Measure all targets of the command line, and return the report; `stack` stops them."""
    names = [target.name for target in make_targets(folder, BASE)]
    options = read_options([name for name in names if not name.endswith(OFF)])
    for program in ("wrk", "node", "git"):
        if shutil.which(program) is None:
            sys.exit(f"bench: {program} is missing; on Debian: apt-get install wrk nodejs git")
    targets = [
        target
        for target in make_targets(folder, options.base)
        if target.name.removesuffix(OFF) in options.only
    ]
    notes: list[str] = []
    running = [target for target in targets if is_started(target, stack, notes)]
    samples: dict[str, list[Sample]] = {target.name: [] for target in running}
    for number in range(options.rounds):
        # Each round begins with another target, so that none always follows the same one.
        first = number % len(running)
        for target in [*running[first:], *running[:first]]:
            say(f"round {number + 1} of {options.rounds}: {target.title}")
            samples[target.name].append(ask(target, options.seconds))
    lines = [
        f"{options.rounds} rounds of {options.seconds} s, {time.strftime('%Y-%m-%d')}",
        *machine(),
        *(f"{target.title}: {target.version()}" for target in running if not target.name.endswith(OFF)),
    ]
    return report(samples, {target.name: target.title for target in running}, lines, notes)


def read_options(names: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds (default: 5)")
    parser.add_argument("--seconds", type=int, default=5, metavar="N", help="seconds of load (default: 5)")
    parser.add_argument("--only", metavar="NAME,NAME", help=f"some of the targets: {','.join(names)}")
    parser.add_argument(
        "--base", default=BASE, metavar="COMMIT", help=f"the earlier bridge (default: {BASE})"
    )
    parser.add_argument("--fast", action="store_true", help="two rounds of 3 s, to try out a change")
    options = parser.parse_args()
    if options.fast:
        options.rounds, options.seconds = 2, 3
    options.only = options.only.split(",") if options.only else names
    if unknown := set(options.only) - set(names):
        parser.error(f"unknown target {', '.join(sorted(unknown))}; expected some of {', '.join(names)}")
    return options


def is_started(target: Target, stack: ExitStack, notes: list[str]) -> bool:
    """Start a target; if that fails, add a note and return False."""
    say(f"start: {target.title}")
    stack.callback(target.stop)
    try:
        target.start()
        warm_up(target)
    except StartFailed as error:
        say(f"not measured: {target.title}: {error}")
        notes.append(f"{target.title}: {str(error).splitlines()[0]}")
        return False
    return True


def say(line: str) -> None:
    """Show progress."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
