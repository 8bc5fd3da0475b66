"""The part of the routing table that only the week has, in a file beside the table of `tests.chaos`."""

from __future__ import annotations

from pathlib import Path

from bridge.demo.arguments import Argument, StandInTask
from tests.chaos.table import ENVIRONMENT, write_table
from tests.chaos.table import stand_in as stand_in_of_chaos
from tests.support.theeye import StandIn

#: TheEye refuses its jobs during one fault; it is paused during another; routes that edits add use it.
REFUSED, PARKED, EDITED = (f"5f3c9a7be4b0a1c2d3e4f7{number:02}" for number in range(3))
_KEYS = {REFUSED: "DEPLOY_KEY", PARKED: "RELEASE_KEY", EDITED: "PLAIN_KEY"}

#: The route of edit number `{edit}` is renamed, gets another branch, and the task another rate.
_TABLE = """
sources:
  beacon: {{type: github, secret: "${{{{ env.HOOK_SECRET }}}}", expect_every: 1m}}
tasks:
  refused: {{id: {refused}, secret_key: "${{{{ env.DEPLOY_KEY }}}}"}}
  parked: {{id: {parked}, secret_key: "${{{{ env.RELEASE_KEY }}}}"}}
  edited: {{id: {edited}, secret_key: "${{{{ env.PLAIN_KEY }}}}", rate: {rate}/s}}
routes:
  - name: refused
    source: github
    match: {{payload.ref: refs/heads/refused}}
    task: refused
    task_arguments: ["${{{{ payload.after }}}}"]
  - name: parked
    source: github
    match: {{payload.ref: refs/heads/parked}}
    task: parked
    task_arguments: ["${{{{ payload.after }}}}"]
  - name: edit {edit}
    source: github
    match: {{payload.ref: refs/heads/edit-{edit}}}
    task: edited
    task_arguments: ["${{{{ payload.after }}}}"]
"""
_MISTAKE = "  - name: a route without a source\n"


class Table:
    """A folder with the routing table, and edits of it."""

    def __init__(self, folder: Path, url: str) -> None:
        """At first it is a table that an earlier release understands, too."""
        self.path = folder / "config"
        self.path.mkdir()
        write_table(self.path, url)
        self._edits = 0

    def edit(self) -> str:
        """Make a valid edit; the branch whose pushes only the new table routes."""
        self._edits += 1
        self.correct()
        return f"edit-{self._edits}"

    def spoil(self) -> None:
        """Make an invalid edit."""
        self._save(self._text + _MISTAKE)

    def correct(self) -> None:
        """Save the last valid table."""
        self._save(self._text)

    @property
    def _text(self) -> str:
        return _TABLE.format(
            refused=REFUSED, parked=PARKED, edited=EDITED, edit=self._edits, rate=20 + self._edits
        )

    def _save(self, text: str) -> None:
        new = self.path.parent / "week.yml"
        new.write_text(text)
        new.replace(self.path / "week.yml")


def stand_in() -> StandIn:
    """TheEye with the tasks of both files."""
    argument = (Argument("commit"),)
    return stand_in_of_chaos(
        StandInTask(task, ENVIRONMENT[key], task, argument) for task, key in _KEYS.items()
    )
