"""Signed examples of every sender, published by it or made with its own library: each has its verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bridge.core.errors import NotAuthentic
from bridge.core.event import Headers, Request
from bridge.core.secrets import Secret
from bridge.sources.base.discovery import discover
from bridge.sources.base.proofs import HmacSignature, RequiredProof
from bridge.sources.base.source import Source
from bridge.sources.base.source_type import Options

TYPES = discover()


def options(vector: dict[str, Any]) -> Options:
    """Grafana's time stands in a header of the user's choice; the vector's name says which."""
    times = [name for name in vector["headers"] if "timestamp" in name.lower()]
    if vector["sender"] != "grafana" or not times:
        return Options()
    header = next(name for name in vector["headers"] if "signature" in name.lower())
    return Options(signature=HmacSignature(header, timestamp_header=times[0], signed="{ts}:{body}"))


def verdict(vector: dict[str, Any]) -> bool:
    """Whether the bridge takes the request for authentic."""
    source_type = TYPES[vector["sender"]]
    key = "token" if "X-Gitlab-Token" in vector["headers"] else "secret"
    (proof,) = (proof for proof in source_type.proofs_with(options(vector)) if proof.key == key)
    source = Source("here", source_type, (RequiredProof(proof, (Secret(vector["secret"]),)),))
    headers = {"Content-Type": source_type.content_types[0], **vector["headers"]}
    body = vector["body"].encode()
    request = Request("here", Headers(headers.items()), {}, body, float(vector.get("now", 0)))
    try:
        source.verify_head(request.with_body(b""))
        source.verify(request)
    except NotAuthentic:
        return False
    return True


def test_every_vector_has_its_verdict(senders: Path) -> None:
    vectors = json.loads((senders / "vectors.json").read_text("utf-8"))
    signed = [vector for vector in vectors if vector["expect"] is not None]
    assert len(signed) >= 20
    wrong = [
        f"{vector['sender']} ({vector['origin']}): expected {vector['expect']}"
        for vector in signed
        if verdict(vector) is not vector["expect"]
    ]
    assert not wrong, "\n".join(wrong)


def test_every_sender_of_the_vectors_has_its_type(senders: Path) -> None:
    vectors = json.loads((senders / "vectors.json").read_text("utf-8"))
    assert {vector["sender"] for vector in vectors} <= set(TYPES)
