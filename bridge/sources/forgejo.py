"""Forgejo, such as Codeberg: as Gitea, with headers of its own.

Source of the rules: https://forgejo.org/docs/latest/user/webhooks/ and Forgejo's services/webhook and
modules/webhook/type.go.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from bridge.sources.base.guide import Guide
from bridge.sources.gitea import MARKERS, Gitea, GiteaSignature, guide_of


class Forgejo(Gitea):
    """A signature in ``X-Forgejo-Signature``; the event in ``X-Forgejo-Event``."""

    name = "forgejo"
    guide: ClassVar[Guide] = guide_of("Forgejo")
    proofs = (GiteaSignature("X-Forgejo-Signature"),)
    event_header = "X-Forgejo-Event"
    id_header = "X-Forgejo-Delivery"
    events = {
        **{name: keys for name, keys in Gitea.events.items() if name not in ("workflow_job", "workflow_run")},
        "action_run_failure": ("action", "run"),
        "action_run_recover": ("action", "run"),
        "action_run_success": ("action", "run"),
    }
    markers = replace(
        MARKERS,
        texts={
            **MARKERS.texts,
            "action": {
                "action_run_failure": ("failure",),
                "action_run_recover": ("recover",),
                "action_run_success": ("success",),
            },
        },
    )
