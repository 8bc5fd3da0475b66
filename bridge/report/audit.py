"""What operators did, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterable

from bridge.core.event import JSON, rfc3339
from bridge.outbox.audit import AuditEntry
from bridge.report.lines import one_line

#: The most job or event numbers in a line.
NUMBERS_LIMIT = 10

AUDIT_HEADING = ("ID", "STARTED", "OPERATOR", "ACTION", "TARGET", "CHANGED", "REASON")


def audit_lines(entries: Iterable[AuditEntry]) -> list[str]:
    """Return the audit as a table with its heading, or that there are no actions."""
    rows = [AUDIT_HEADING, *map(_audit_cells, entries)]
    if len(rows) == 1:
        return ["no actions"]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) for cell, width in zip((f"{row[0]:>6}", *row[1:]), widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def _audit_cells(entry: AuditEntry) -> tuple[str, ...]:
    action = entry.action
    via = "" if action.account in (None, action.actor) else f" ({one_line(action.account or '')})"
    who = f"{one_line(action.actor)}{via}"
    target = ", ".join(f"{name.replace('_', ' ')} {_target(value)}" for name, value in action.target.items())
    changed = f"{entry.changed}" if action.selected is None else f"{entry.changed} of {action.selected}"
    end = "" if entry.ended_at is not None else ", not ended"
    started, reason = f"{rfc3339(entry.at)[:19]}Z", one_line(action.reason or "")
    return f"{entry.id}", started, who, action.name, target, f"{changed}{end}", reason


def _target(value: JSON) -> str:
    if not isinstance(value, list):
        return one_line(str(value))
    more = f" and {len(value) - NUMBERS_LIMIT} more" if len(value) > NUMBERS_LIMIT else ""
    return " ".join(map(str, value[:NUMBERS_LIMIT])) + more


def audit_json(entry: AuditEntry) -> JSON:
    action = entry.action
    return {
        "id": entry.id,
        "started_at": rfc3339(entry.at),
        "operator": action.actor,
        "account": action.account,
        "action": action.name,
        "reason": action.reason,
        "target": action.target,
        "selected": action.selected,
        "changed": entry.changed,
        "ended_at": None if entry.ended_at is None else rfc3339(entry.ended_at),
    }
