"""Discovery of the source types: one in each module of `bridge.sources`."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

import bridge.sources
from bridge.sources.base.source_type import Fetch, SourceType, fetch_nothing


def discover(fetch: Fetch = fetch_nothing) -> dict[str, SourceType]:
    """Return every type by its name."""
    types: dict[str, SourceType] = {}
    for module in iter_modules(bridge.sources.__path__):
        name = f"{bridge.sources.__name__}.{module.name}"
        for value in vars(import_module(name)).values():
            if isinstance(value, type) and issubclass(value, SourceType) and value.__module__ == name:
                types[value.name] = value(fetch)
    return types
