"""Who pushes while everything goes wrong: each push again and again, until it is taken."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random

from tests.chaos.oracle import Taken
from tests.chaos.table import KINDS, WEIGHTS, Kind, members
from tests.support.pushes import Client

#: Seconds that a client waits between two pushes, from and to; and before it pushes the same once more.
_PAUSE, _AGAIN = (0.0, 0.2), 0.1
#: One push in so many comes again though it was taken, as a sender does that lost the answer.
_REDELIVERED = 10
#: How long a client waits for an answer, seconds.
_PATIENCE = 30.0


class Load:
    """So many clients, from `start` until `finish`. What is pushed follows from the seed."""

    def __init__(
        self,
        port: int,
        seed: int,
        clients: int,
        *,
        pause: tuple[float, float] = _PAUSE,
        name: str = "commit",
    ) -> None:
        """`pause` is the time between two pushes of a client; `name` begins the name of each commit."""
        self._port = port
        self._pause = pause
        self._name = name
        self._seed = seed
        self._finishing = threading.Event()
        # Guards what follows.
        self._changed = threading.Condition()
        self._begun = 0
        self._taken: list[Taken] = []
        self._statuses: Counter[int] = Counter()
        self._error: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._guard, args=(self._push_all,), daemon=True) for _ in range(clients)
        ]

    @property
    def taken(self) -> tuple[Taken, ...]:
        with self._changed:
            return tuple(self._taken)

    @property
    def statuses(self) -> Counter[int]:
        """How often which was answered; 0 where no answer came."""
        with self._changed:
            return Counter(self._statuses)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wait_for_more(self, pushes: int, timeout: float = _PATIENCE) -> None:
        """Until so many more are taken. Raises AssertionError."""
        with self._changed:
            wanted = len(self._taken) + pushes
            enough = self._changed.wait_for(lambda: len(self._taken) >= wanted, timeout)
            assert enough, f"{wanted - len(self._taken)} of {pushes} pushes were not taken in {timeout:.0f} s"

    def finish(self, timeout: float) -> None:
        """Begin no more, and wait until all that are begun are taken.

        Raises AssertionError, and what ended a client before.
        """
        self._finishing.set()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self._error:
            raise self._error
        hang = sum(thread.is_alive() for thread in self._threads)
        assert not hang, f"{hang} pushes were not taken within {timeout:.0f} s: {dict(self.statuses)}"

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised in `finish`
            self._error = error

    def _push_all(self) -> None:
        client = Client(self._port, _PATIENCE)
        while not self._finishing.is_set():
            with self._changed:
                self._begun += 1
                number = self._begun
            random = Random(f"{self._seed} {number}")
            (kind,) = random.choices(KINDS, WEIGHTS)
            commit, member = f"{self._name}-{number:06}", random.choice(members(kind))
            if kind is Kind.ONCE:
                self._push_twins(client, commit, member)
            else:
                self._push(client, commit, kind, member)
            if random.random() < 1 / _REDELIVERED:
                self._note(client.push(commit, kind, member).status)
            self._finishing.wait(random.uniform(*self._pause))
        client.close()

    def _push_twins(self, client: Client, commit: str, member: str) -> None:
        """Two of one key at the same moment, of which one must not go through."""
        other = Client(self._port, _PATIENCE)
        push = partial(self._push, other, f"{commit}-twin", Kind.ONCE, member)
        twin = threading.Thread(target=self._guard, args=(push,))
        twin.start()
        self._push(client, commit, Kind.ONCE, member)
        twin.join()
        other.close()

    def _push(self, client: Client, commit: str, kind: Kind, member: str) -> None:
        begun = time.time()
        while not (answer := client.push(commit, kind, member)).is_taken:
            self._note(answer.status)
            time.sleep(_AGAIN)
        self._note(answer.status, Taken(commit, kind, member, begun, time.time(), answer.jobs))

    def _note(self, status: int, taken: Taken | None = None) -> None:
        with self._changed:
            self._statuses[status] += 1
            if taken:
                self._taken.append(taken)
            self._changed.notify_all()
