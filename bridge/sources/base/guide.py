"""Guide: what a user must know of a type of source; docs/sources.md is made from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.sources.base.source_type import SourceType

_HEAD = """# Sources

What each type of source takes, and what to click in its sender's settings. Made from the types' own
declarations by `make docs`; edit those.

A source's URL is `https://your-bridge/hooks/<its name in the table>`. Each proof may hold a list of secrets,
any of which may match: for the time of a rotation, write the new one and the old one. Where two kinds of
proof stand, both must hold, unless they stand under `any_of:`.
"""


_REPLAYS = (
    "nothing signs its delivery ids or the time, so an old body may come under a new id. The bridge notes "
    "that on the event; with `replays: refuse` such a body makes no job."
)


@dataclass(frozen=True)
class Guide:
    """One type's section, in Markdown. How the lines of its prose are broken does not matter."""

    #: The sender's own name, such as ``GitHub``.
    title: str
    #: Where in the sender's settings to paste what.
    setup: str
    #: The source and a route, as the table has them.
    example: str
    #: What the event and the action are.
    events: str
    #: What identifies a delivery, and so what counts as come again.
    identity: str
    #: How long the sender waits, and what it sends again.
    repeats: str
    #: What goes wrong, one sentence or two each.
    traps: tuple[str, ...] = ()


def document(types: Iterable[SourceType]) -> str:
    """The text of docs/sources.md."""
    sections = ("\n".join(_section(each)) for each in sorted(types, key=lambda each: each.name))
    return "\n".join([_HEAD, *sections])


def _section(source_type: SourceType) -> Iterator[str]:
    guide = source_type.guide
    setup, events, identity, repeats = map(_prose, (guide.setup, guide.events, guide.identity, guide.repeats))
    given_out = dict.fromkeys(source_type.sender_issued, ", given out by the sender")
    proofs = "; ".join(
        f"`{proof.key}:` ({proof.header}{given_out.get(proof.key, '')})" for proof in source_type.proofs
    )
    yield f"## {guide.title}: `type: {source_type.name}`\n"
    yield f"{setup}\n"
    yield f"```yaml\n{guide.example.strip()}\n```\n"
    yield f"- **Proofs:** {proofs}."
    yield f"- **Body:** {', or '.join(map(str, source_type.bodies))}."
    yield f"- **Events:** {events}"
    if source_type.events:
        known = ", ".join(f"`{name}`" for name in source_type.events)
        yield f"- **Known events:** {known}."
    yield f"- **Identity:** {identity}"
    yield f"- **Repeats:** {repeats}"
    if source_type.replayable:
        yield f"- **Replays:** {_REPLAYS}"
    for trap in guide.traps:
        yield f"- **Mind:** {_prose(trap)}"
    yield ""


def _prose(text: str) -> str:
    return " ".join(text.split())
