"""EventIndex: the routes of one source by the events that they name; pure."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.core.event import Event
from bridge.routing.route import Route


class EventIndex:
    """Finds the routes that may match an event, without a look at the routes of other events."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes
        #: Positions in `routes`, by the event that they name.
        self._by_name: dict[str, list[int]] = {}
        #: Positions of the routes without ``event:``, or with a wildcard there.
        self._of_any: list[int] = []
        for position, route in enumerate(routes):
            if route.event_names is None:
                self._of_any.append(position)
            for name in route.event_names or ():
                self._by_name.setdefault(name, []).append(position)

    def has(self, names: Sequence[str]) -> bool:
        """Return whether a route without a wildcard names one of these events."""
        return any(name in self._by_name for name in names)

    def candidates(self, event: Event) -> list[Route]:
        """Return the routes whose ``event:`` may match, in the order of the table."""
        named = self._by_name.get(event.event, ()), self._by_name.get(event.full_name, ())
        positions = {*self._of_any, *named[0], *named[1]}
        return [self._routes[position] for position in sorted(positions)]
