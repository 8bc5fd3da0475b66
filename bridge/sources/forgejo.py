"""Forgejo, such as Codeberg: as Gitea, with headers of its own.

Source of the rules: https://forgejo.org/docs/latest/user/webhooks/ and Forgejo's services/webhook and
modules/webhook/type.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from bridge.sources.gitea import MARKS, Gitea, GiteaSignature, guide_of
from bridge.sources.guide import Guide
from bridge.sources.recognition import Marks
from bridge.sources.signatures import Proof


class Forgejo(Gitea):
    """A signature in ``X-Forgejo-Signature``; the event in ``X-Forgejo-Event``."""

    name: ClassVar[str] = "forgejo"
    guide: ClassVar[Guide] = guide_of("Forgejo")
    proofs: ClassVar[tuple[Proof, ...]] = (GiteaSignature("X-Forgejo-Signature"),)
    event_header: ClassVar[str | None] = "X-Forgejo-Event"
    id_header: ClassVar[str] = "X-Forgejo-Delivery"
    events: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **{name: keys for name, keys in Gitea.events.items() if name not in ("workflow_job", "workflow_run")},
        "action_run_failure": ("action", "run"),
        "action_run_recover": ("action", "run"),
        "action_run_success": ("action", "run"),
    }
    marks: ClassVar[Marks | None] = replace(
        MARKS,
        texts={
            **MARKS.texts,
            "action": {
                "action_run_failure": ("failure",),
                "action_run_recover": ("recover",),
                "action_run_success": ("success",),
            },
        },
    )
