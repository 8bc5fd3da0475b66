"""Gogs: as Gitea, which was made from it, with fewer events.

Source of the rules: https://github.com/gogs/docs-api (Repositories/Webhooks) and Gogs' HookTask.deliver.
"""

from __future__ import annotations

from typing import ClassVar

from bridge.sources.base.guide import Guide
from bridge.sources.gitea import COMMON_EVENTS, Gitea, GiteaSignature, guide_of


class Gogs(Gitea):
    """A signature in ``X-Gogs-Signature``; the event in ``X-Gogs-Event``."""

    name = "gogs"
    guide: ClassVar[Guide] = guide_of("Gogs")
    proofs = (GiteaSignature("X-Gogs-Signature"),)
    event_header = "X-Gogs-Event"
    id_header = "X-Gogs-Delivery"
    events = COMMON_EVENTS
