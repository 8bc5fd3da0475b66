"""The table's JSON Schema (draft 7, for editors), from the models and the source types.

It describes one file, so a section that may be in another file is not required.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from bridge.config.models import ProofsModel, SourceModel
from bridge.config.sections import TableModel
from bridge.sources.base.source_type import Options, SourceType

Schema = dict[str, Any]

_SOURCE = SourceModel.__name__
#: All keys of a source. Each type has some of them.
_KEYS = "SourceKeys"


def document(types: Iterable[SourceType]) -> str:
    """Return the text of config/schema.json."""
    return json.dumps(schema(types), indent=2, ensure_ascii=False) + "\n"


def schema(types: Iterable[SourceType]) -> Schema:
    """Return the schema of one file of a table with these source types."""
    table = TableModel.model_json_schema(ref_template="#/definitions/{model}")
    definitions: dict[str, Schema] = table.pop("$defs")
    for section in table["properties"].values():
        if "$ref" in section:  # its keys may be in several files
            definitions[_name(section["$ref"])].pop("required", None)
    types = sorted(types, key=lambda each: each.name)
    keys = definitions[_KEYS] = definitions[_SOURCE]
    keys["properties"]["type"]["enum"] = [each.name for each in types]
    definitions |= {_of_type(each.name): _source(each, keys) for each in types}
    definitions[_SOURCE] = _by_type(types, keys)
    table["properties"]["sources"] |= {"properties": {each.name: _named(each) for each in types}}
    return {"$schema": "http://json-schema.org/draft-07/schema#", **table, "definitions": definitions}


def _source(source_type: SourceType, keys: Schema) -> Schema:
    """Return the schema of a source of this type, with the keys that the type declares."""
    proofs = {proof.key for proof in source_type.proofs}
    others = {*ProofsModel.model_fields} - proofs
    others |= {field.name for field in fields(Options)} - {*source_type.options}
    others |= {"dedupe"} if source_type.dedupe is None else set()
    others |= set() if source_type.replayable else {"replays"}
    properties = {key: _key(key) for key in keys["properties"] if key not in others}
    properties["any_of"] = {
        "type": "object",
        "description": keys["properties"]["any_of"]["description"],
        "properties": {key: _key(key) for key in ProofsModel.model_fields if key in proofs},
        "additionalProperties": False,
    }
    return {
        "title": source_type.guide.title,
        "description": " ".join(source_type.guide.setup.split()),
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def _by_type(types: Iterable[SourceType], keys: Schema) -> Schema:
    """Return the schema of a source with the key `type`."""
    return {
        "title": keys["title"],
        "description": keys["description"],
        "type": "object",
        "properties": {"type": _key("type")},
        "required": ["type"],
        "allOf": [
            {
                "if": {"properties": {"type": {"const": each.name}}, "required": ["type"]},
                "then": {"$ref": f"#/definitions/{_of_type(each.name)}"},
            }
            for each in types
        ],
    }


def _named(source_type: SourceType) -> Schema:
    """Return the schema of a source named like a type, which is its default type."""
    return {
        "if": {"type": "object", "required": ["type"]},
        "then": {"$ref": f"#/definitions/{_SOURCE}"},
        "else": {"$ref": f"#/definitions/{_of_type(source_type.name)}"},
    }


def _key(key: str) -> Schema:
    return {"$ref": f"#/definitions/{_KEYS}/properties/{key}"}


def _of_type(name: str) -> str:
    return f"source-{name}"


def _name(ref: str) -> str:
    return ref.rpartition("/")[2]
