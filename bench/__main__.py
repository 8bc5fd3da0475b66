"""``python -m bench``: compare the bridge with other receivers, or measure its growth."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.growth import GROWTH, TABLES, growth
from bench.load import NothingAccepted
from bench.machine import machine, tools
from bench.memory import MEASURED, measure_memory
from bench.processes import StartFailed
from bench.report import Run, report
from bench.round import ask, warm_up
from bench.sample import Sample
from bench.targets import Target, make_targets

RESULTS = Path(__file__).parent / "RESULTS.md"

DESCRIPTION = "Compare the bridge with other receivers of webhooks, and write bench/RESULTS.md."

#: The commit of 0.1.0.
BASE = "cb46e5d"

#: The end of the names of targets with delivery off: they run with the target that delivers.
OFF = "-off"

#: A run of fewer jobs could be over before each quarter has a sample of the memory.
MIN_JOBS = 10_000

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> None:
    """Run the bench. Ctrl-C, SIGTERM and SIGHUP stop all that it started."""
    options = read_options()
    for program in ("wrk", "node", "git"):
        if shutil.which(program) is None:
            sys.exit(f"bench: {program} is missing; on Debian: apt-get install wrk nodejs git")
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler)
    stack = ExitStack()
    try:
        folder = Path(tempfile.mkdtemp(prefix="bridge-bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        page = growth(options, folder, stack, say) if options.growth else report(run(options, folder, stack))
    except KeyboardInterrupt:
        sys.exit("bench: interrupted")
    finally:
        # A second Ctrl-C would leave processes behind.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        stack.close()
    print(page)
    if not options.fast:
        (GROWTH if options.growth else RESULTS).write_text(page)


def run(options: argparse.Namespace, folder: Path, stack: ExitStack) -> Run:
    """Measure the targets of the command line; `stack` stops them."""
    load_before = os.getloadavg()[0]
    missing: list[str] = []
    running = [
        target
        for target in make_targets(folder, options.base)
        if target.name.removesuffix(OFF) in options.only and is_started(target, stack, missing)
    ]
    samples = measure_rounds(options, running, missing)
    memory = {}
    for target in running:
        if options.memory and target.name in MEASURED:
            try:
                memory[target.name] = measure_memory(target, options.jobs, say)
            except NothingAccepted as error:
                missing.append(f"{target.title}, memory: {error}")
    lines = [
        f"{time.strftime('%Y-%m-%d')}: rounds: {options.rounds}, seconds of load: {options.seconds}",
        f"{machine()}; load average {load_before:.1f} before the start",
        tools(),
        *(f"{target.title}: {target.version()}" for target in running if not target.name.endswith(OFF)),
    ]
    return Run(lines, {target.name: target.title for target in running}, samples, memory, missing)


def measure_rounds(
    options: argparse.Namespace, running: Sequence[Target], missing: list[str]
) -> dict[str, list[Sample]]:
    """Ask each target once in each round; one that fails gets a line in `missing`, and no figures."""
    samples: dict[str, list[Sample]] = {target.name: [] for target in running}
    for number in range(options.rounds):
        # Each round begins with another target, so that none always follows the same one.
        first = number % max(1, len(running))
        for target in [*running[first:], *running[:first]]:
            if target.name not in samples:
                continue
            say(f"round {number + 1} of {options.rounds}: {target.title}")
            try:
                samples[target.name].append(ask(target, options.seconds))
            except NothingAccepted as error:
                say(f"not measured: {target.title}: {error}")
                missing.append(f"{target.title}: {error} in round {number + 1}")
                del samples[target.name]
    return samples


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=DESCRIPTION)
    names = [each.name for each in make_targets(Path(), BASE) if not each.name.endswith(OFF)]
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds (default: 5)")
    parser.add_argument("--seconds", type=int, default=5, metavar="N", help="seconds of load (default: 5)")
    tables = [each.name for each in TABLES]
    parser.add_argument("--growth", action="store_true", help="measure growth instead, and write GROWTH.md")
    parser.add_argument(
        "--only",
        metavar="NAME,NAME",
        help=f"some of the targets: {','.join(names)}; of growth: {','.join(tables)}",
    )
    parser.add_argument(
        "--base", default=BASE, metavar="COMMIT", help=f"the earlier bridge (default: {BASE})"
    )
    parser.add_argument(
        "--fast", action="store_true", help="two rounds of 3 s, or with a tenth of the growth; write no file"
    )
    parser.add_argument("--memory", action="store_true", help="also send many jobs through the bridge")
    parser.add_argument("--jobs", type=int, default=100_000, metavar="N", help="how many (default: 100000)")
    options = parser.parse_args()
    if options.jobs < MIN_JOBS:
        parser.error(f"--jobs {options.jobs} is too short a run for its memory; the least is {MIN_JOBS}")
    if options.fast:
        options.rounds, options.seconds = 2, 3
    names = tables if options.growth else names
    options.only = options.only.split(",") if options.only else names
    if unknown := set(options.only) - set(names):
        parser.error(f"unknown name {', '.join(sorted(unknown))}; expected some of {', '.join(names)}")
    return options


def is_started(target: Target, stack: ExitStack, missing: list[str]) -> bool:
    """Start a target; if that fails, say so in `missing` and return False."""
    say(f"start: {target.title}")
    stack.callback(target.stop)
    try:
        target.start()
        warm_up(target)
    except (StartFailed, NothingAccepted) as error:
        say(f"not measured: {target.title}: {error}")
        missing.append(f"{target.title}: {str(error).splitlines()[0]}")
        return False
    return True


def say(line: str) -> None:
    """Show progress."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
