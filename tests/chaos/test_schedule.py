"""The schedule: drawn from a seed, every time alike."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.chaos.schedule import BY_THEEYE, ON_POSTGRESQL, ON_SQLITE, What, schedule

LANES = [BY_THEEYE, ON_SQLITE, ON_POSTGRESQL]


@pytest.mark.parametrize("whats", LANES)
def test_the_same_seed_gives_the_same_schedule_and_another_another(whats: tuple[What, ...]) -> None:
    assert schedule(7, 60, whats) == schedule(7, 60, whats)
    assert schedule(7, 60, whats) != schedule(8, 60, whats)


@pytest.mark.parametrize("whats", LANES)
def test_one_ends_before_the_next_begins_and_the_last_before_the_end(whats: tuple[What, ...]) -> None:
    actions = schedule(7, 600, whats)
    for action, next_ in pairwise(actions):
        assert action.at + action.lasts < next_.at
    assert 590 - actions[-1].lasts < actions[-1].at + actions[-1].lasts <= 600


@pytest.mark.parametrize("whats", LANES)
def test_each_comes_once_before_any_comes_again(whats: tuple[What, ...]) -> None:
    happens = [action.what for action in schedule(7, 600, whats) if action.what is not What.PERSON]
    for start in range(0, len(happens) - len(whats), len(whats)):
        assert sorted(happens[start : start + len(whats)]) == sorted(whats)


def test_a_person_comes_now_and_then() -> None:
    happens = [action.what for action in schedule(7, 600, BY_THEEYE)]
    assert happens[6::7] == [What.PERSON] * len(happens[6::7])


def test_what_was_not_taken_on_is_never_at_theeye() -> None:
    for action in schedule(7, 600, BY_THEEYE):
        if action.what in (What.BUSY_FOR, What.BUSY_UNTIL, What.AWAY, What.REFUSES, What.FLAPS):
            assert not action.saves


def test_a_worker_outlives_its_leases_only_in_a_long_run() -> None:
    def longest(seconds: float) -> float:
        actions = schedule(7, seconds, (What.FREEZE_WORKER,))
        return max(action.lasts for action in actions)

    assert longest(90) < 10
    assert longest(600) > 32
