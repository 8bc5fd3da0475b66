"""Open a store from a separate program: ``python -m tests.support.open_store GATE URL [SCRIPTS HEAD]``.

It writes "ready", waits for the file GATE, opens the store, and writes the revisions before and after.
SCRIPTS is a folder of migrations, and HEAD its last revision.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from bridge.outbox import migrations
from bridge.outbox.store import Outbox


def main(gate: str, url: str, *release: str) -> None:
    if release:
        scripts, head = release
        vars(migrations).update(SCRIPTS=Path(scripts), HEAD=head)
    print("ready", flush=True)
    while not Path(gate).exists():
        time.sleep(0.001)
    outbox = Outbox(url)
    print(*outbox.revisions)
    outbox.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
