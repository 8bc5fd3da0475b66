"""The statements that a store executes, and the units of work of its batches one by one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Connection

from bridge.outbox import statement
from bridge.outbox.database import RunAlone
from bridge.outbox.store import Outbox


@contextmanager
def executed() -> Iterator[list[tuple[str, Any]]]:
    """Note each statement of any store, and its parameters, before the driver executes it."""
    noted: list[tuple[str, Any]] = []
    execute = statement._Compiled.execute

    def note(_c: object, _u: object, text: str, parameters: Any, *_: object) -> None:
        noted.append((text, parameters))

    def note_compiled(self: statement._Compiled, connection: Connection, parameters: Any) -> Any:
        noted.append((self.text, self.values(parameters)))
        return execute(self, connection, parameters)

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", note)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statement._Compiled, "execute", note_compiled)
        try:
            yield noted
        finally:
            sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", note)


def run_alone(outbox: Outbox, patch: pytest.MonkeyPatch) -> None:
    """Let each unit of a batch run alone, by `write`, as after the batch has failed."""

    def fail(*_: object) -> None:
        raise RunAlone

    patch.setattr(outbox._database, "_write_in_batch", fail)
