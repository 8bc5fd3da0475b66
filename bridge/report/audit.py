"""What operators did, as text and as JSON."""

from __future__ import annotations

from bridge.core.event import JSON, rfc3339
from bridge.outbox.audit import AuditEntry
from bridge.report.lines import one_line

#: The most job or event numbers in a line.
NUMBERS_LIMIT = 10

#: The heading of the list; a time has 20 characters.
AUDIT_HEADING = f"{'ID':>6}  {'STARTED':<20}  OPERATOR  ACTION  TARGET  CHANGED"


def audit_line(entry: AuditEntry) -> str:
    """One line of the audit."""
    action = entry.action
    via = "" if action.account in (None, action.actor) else f" ({one_line(action.account or '')})"
    who = f"{one_line(action.actor)}{via}"
    target = ", ".join(f"{name.replace('_', ' ')} {_target(value)}" for name, value in action.target.items())
    changed = f"{entry.changed}" if action.selected is None else f"{entry.changed} of {action.selected}"
    end = "" if entry.ended_at is not None else ", not ended"
    return f"{entry.id:>6}  {rfc3339(entry.at)[:19]}Z  {who}  {action.name}  {target}  {changed}{end}"


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
        "target": action.target,
        "selected": action.selected,
        "changed": entry.changed,
        "ended_at": None if entry.ended_at is None else rfc3339(entry.ended_at),
    }
