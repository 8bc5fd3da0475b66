"""Gogs: as Gitea, which was made from it, with fewer events.

Source of the rules: https://github.com/gogs/docs-api (Repositories/Webhooks) and Gogs' HookTask.deliver.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from bridge.sources.gitea import COMMON_EVENTS, Gitea, GiteaSignature, guide_of
from bridge.sources.guide import Guide
from bridge.sources.signatures import Proof


class Gogs(Gitea):
    """A signature in ``X-Gogs-Signature``; the event in ``X-Gogs-Event``."""

    name: ClassVar[str] = "gogs"
    guide: ClassVar[Guide] = guide_of("Gogs")
    proofs: ClassVar[tuple[Proof, ...]] = (GiteaSignature("X-Gogs-Signature"),)
    event_header: ClassVar[str | None] = "X-Gogs-Event"
    id_header: ClassVar[str] = "X-Gogs-Delivery"
    events: ClassVar[Mapping[str, tuple[str, ...]]] = COMMON_EVENTS
