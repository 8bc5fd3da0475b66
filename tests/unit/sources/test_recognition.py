"""A body that is sent again as another event: refused wherever the body tells which event it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import orjson
import pytest

from bridge.core.errors import Refusal, Unreadable
from bridge.core.event import JSON, Headers, Request
from bridge.sources.base.event_mismatch import EventMatcher, Markers
from bridge.sources.base.source import Source
from bridge.sources.base.source_type import SourceType
from tests.support.intake import FIXTURES, Intake, changed, github_headers, sample, signature
from tests.support.octokit import Example
from tests.unit.sources.test_bitbucket import sent as bitbucket_headers
from tests.unit.sources.test_gitea import sent as gitea_headers
from tests.unit.sources.test_sources import TYPES, event_name, full_name

#: The types whose sender names the event in a header that nothing signs, or that a token accompanies.
BY_HEADER = [
    one for one in TYPES.values() if one.event_header is not None and one.name not in ("circleci", "sns")
]

GITHUB = TYPES["github"]

#: GitHub's events whose bodies can be sent again as another event: for each event, those other ones. Their
#: bodies have the same keys, or GitHub does not send a key of their own with every body.
SAME_SHAPE: Mapping[str, str] = {
    "deployment": "deployment_protection_rule",
    "enterprise": "deployment_protection_rule github_app_authorization sub_issues user",
    "github_app_authorization": "deployment_protection_rule enterprise sub_issues user",
    "organization": "deployment_protection_rule sub_issues",
    "repository": "branch_protection_configuration deployment_protection_rule public sub_issues watch",
    "team": "team_add",
    "watch": "branch_protection_configuration deployment_protection_rule public repository sub_issues",
}
#: How many of the pairs of an example and another event's name those are, and how many pairs there are.
ACCEPTED_PAIRS, ALL_PAIRS = 251, 56_628


def reason(example: Example, event: str) -> str | None:
    return GITHUB.event_matcher.mismatch(event, example.payload)


class TestGitHub:
    """Every example of GitHub's own library, as each known event."""

    def test_no_example_is_refused(self, webhook_examples: list[Example]) -> None:
        source = Source("github", GITHUB, ())
        for example in webhook_examples:
            headers = GITHUB.headers_for(example.event)
            body = orjson.dumps(example.payload)
            event, _ = source.read(Request("github", Headers(headers.items()), {}, body, 0.0))
            assert event.event == example.event, example
        assert len(webhook_examples) > 700

    def test_every_event_of_the_examples_is_known(self, webhook_examples: list[Example]) -> None:
        assert {example.event for example in webhook_examples} <= set(GITHUB.events)

    def test_an_example_is_refused_as_another_event(self, webhook_examples: list[Example]) -> None:
        accepted: Counter[tuple[str, str]] = Counter()
        pairs = 0
        for example in webhook_examples:
            for other in GITHUB.events:
                if other != example.event:
                    pairs += 1
                    accepted[example.event, other] += reason(example, other) is None
        found = {pair for pair, count in accepted.items() if count}
        known = {(event, other) for event, others in SAME_SHAPE.items() for other in others.split()}
        assert (found - known, known - found) == (set(), set())
        assert (accepted.total(), pairs) == (ACCEPTED_PAIRS, ALL_PAIRS)

    def test_a_new_key_of_github_refuses_nothing(self, webhook_examples: list[Example]) -> None:
        for example in webhook_examples:
            assert GITHUB.event_matcher.mismatch(example.event, {**example.payload, "new": {}}) is None

    def test_a_known_key_refuses_what_looks_like_another_event(self, webhook_examples: list[Example]) -> None:
        """If GitHub adds such a key to an event, the bridge must learn of it."""
        subjects = {key for keys in GITHUB.events.values() for key in keys if "." not in key} - {"action"}
        refused: dict[str, set[str]] = {}
        for example in webhook_examples:
            for key in subjects - example.payload.keys():
                payload = {**example.payload, key: {}}
                if GITHUB.event_matcher.mismatch(example.event, payload) is not None:
                    refused.setdefault(example.event, set()).add(key)
        without_a_key_of_their_own = {name for name, keys in refused.items() if len(keys) > 40}
        assert without_a_key_of_their_own == {
            "enterprise", "github_app_authorization", "organization", "repository", "watch",
        }  # fmt: skip
        assert {
            name: " ".join(sorted(keys))
            for name, keys in refused.items()
            if name not in without_a_key_of_their_own
        } == {
            "commit_comment": "discussion issue pull_request",
            "delete": "master_branch",
            "deployment": "deployment_status workflow_job",
            "discussion": "comment",
            "installation": "repositories_added",
            "issues": "comment",
            "label": "discussion issue",
            "member": "team",
            "milestone": "issue",
            "public": "build deployment forkee pages status team",
            "push": "cache_location",
            "secret_scanning_alert": "location",
            "team": "member",
            "workflow_run": "deployment since",
        }


#: Fixtures that can be sent again as another event: for each fixture, those other events. Their bodies have
#: the same shape, as a system hook and a project's hook of GitLab. Some of Sentry's have no known shape.
ALSO: Mapping[str, Mapping[str, str]] = {
    "bitbucket": {
        "pullrequest;approved": "pullrequest:unapproved",
        "pullrequest;created": "pullrequest:updated",
        "repo;commit_status_updated": "repo:commit_status_created",
    },
    # An integration sends every kind of body as Service Hook. Build Hook is the older name of Job Hook.
    "gitlab": {
        **dict.fromkeys(
            (
                "Deployment Hook.running", "Member Hook", "Merge Request Hook.open", "Pipeline Hook.failed",
                "Push Hook", "Push Hook__delete_branch", "Tag Push Hook",
            ),
            "Service Hook",
        ),
        "Issue Hook.open": "Confidential Issue Hook Work Item Hook Service Hook",
        "Job Hook.success": "Build Hook Service Hook",
        "merge_request.open__system": "Merge Request Hook Service Hook",
        "project_create__system": "Project Hook Service Hook",
        "push__system": "Push Hook Service Hook",
    },
    "sentry": dict.fromkeys(
        (
            "comment.created", "error.created", "event_alert.triggered", "installation.created",
            "issue.created", "metric_alert.critical",
        ),
        "activity_alert preprod_artifact seer",
    ),
}  # fmt: skip


def fixtures(source_type: SourceType) -> Iterator[tuple[str, bytes]]:
    for path in sorted((FIXTURES / source_type.name).glob("*.json")):
        if not path.stem.endswith("__custom_template"):  # it holds nothing but what a user wrote
            yield path.stem, path.read_bytes()


def read_as(source_type: SourceType, event: str, body: bytes) -> str | None:
    """The name of the event that a source reads; None where it refuses the body."""
    headers = Headers({**source_type.headers_for(event), str(source_type.event_header): event}.items())
    try:
        return Source("here", source_type, ()).read(Request("here", headers, {}, body, 0.0))[0].event
    except Refusal:
        return None


@pytest.mark.parametrize("source_type", BY_HEADER, ids=lambda one: one.name)
def test_a_fixture_is_refused_as_another_event(source_type: SourceType) -> None:
    accepted = {}
    for stem, body in fixtures(source_type):
        own = event_name(source_type, FIXTURES / source_type.name / f"{stem}.json")
        others = [
            other
            for other in source_type.events
            if other not in (own, full_name(Path(stem))) and read_as(source_type, other, body) == other
        ]
        if others:
            accepted[stem] = " ".join(others)
    assert accepted == ALSO.get(source_type.name, {})


TABLE = """
sources:
  github: {secret: "${{ env.GITHUB_SECRET }}"}
  gitea: {secret: "${{ env.GITHUB_SECRET }}"}
  bitbucket: {secret: "${{ env.GITHUB_SECRET }}"}
routes:
  - {source: github, task: TASK, secret_key: KEY, task_arguments: ["${{ event }}"]}
  - {source: gitea, task: TASK, secret_key: KEY, task_arguments: ["${{ event }}"]}
  - {source: bitbucket, task: TASK, secret_key: KEY, task_arguments: ["${{ event }}"]}
"""


class TestReplay:
    """Somebody who may open an issue or a pull request has seen a body that the sender signed."""

    @pytest.fixture
    def intake(self, make_intake: Callable[[str], Intake]) -> Intake:
        return make_intake(TABLE)

    def sent_twice(
        self, intake: Intake, source: str, body: bytes, own: Mapping[str, str], other: Mapping[str, str]
    ) -> str:
        """Why the body is refused as the other event, after it was accepted as its own."""
        assert intake.post(source, body, own).status == 202
        with pytest.raises(Unreadable) as caught:
            intake.post(source, body, other)
        assert intake.rows() == (1, 1)
        return str(caught.value).partition("read: ")[2].partition(";")[0]

    @pytest.mark.parametrize(
        ("event", "why"),
        [
            ("repository", "whose body is that of issues"),
            ("star", "without starred_at"),
            ("watch", "whose body is that of issues"),
            ("organization", "whose body is that of"),
            ("label", "without label"),
        ],
    )
    def test_an_issue_at_github(self, intake: Intake, event: str, why: str) -> None:
        body = changed(sample("github/issues.opened.json"), organization={"login": "acme"})
        if event == "organization":
            assert "organization" in orjson.loads(body)
        own, other = (github_headers(body, name, name) for name in ("issues", event))
        assert f"a github {event} {why}" in self.sent_twice(intake, "github", body, own, other)

    def test_a_comment_at_github_is_no_issue(self, intake: Intake) -> None:
        body = changed(sample("github/issues.opened.json"), comment={"id": 1, "body": "x"})
        own, other = (github_headers(body, name, name) for name in ("issue_comment", "issues"))
        why = self.sent_twice(intake, "github", body, own, other)
        assert why == "a github issues whose body is that of issue_comment"

    def test_an_open_pull_request_at_bitbucket_is_not_merged(self, intake: Intake) -> None:
        body = sample("bitbucket/pullrequest;created.json")
        own, other = (
            {**bitbucket_headers(body, name), "X-Request-UUID": name, "X-Hub-Signature": signature(body)}
            for name in ("pullrequest:created", "pullrequest:fulfilled")
        )
        why = self.sent_twice(intake, "bitbucket", body, own, other)
        assert why == "a bitbucket pullrequest:fulfilled whose pullrequest.state is OPEN"

    @pytest.mark.parametrize("review", [None, {"type": "pull_request_review_rejected", "content": ""}])
    def test_a_pull_request_at_gitea_is_not_approved(self, intake: Intake, review: JSON) -> None:
        body = changed(sample("gitea/pull_request.opened.json"), review=review)
        own = gitea_headers(body, event="pull_request_rejected" if review else "pull_request", delivery="1")
        other = gitea_headers(body, event="pull_request_approved", delivery="2")
        why = self.sent_twice(intake, "gitea", body, own, other)
        expected = "whose review.type is pull_request_review_rejected" if review else "without review.type"
        assert why == f"a gitea pull_request_approved {expected}"


class TestMisfit:
    """The rule itself."""

    EVENTS: Mapping[str, tuple[str, ...]] = {
        "issue": ("issue",),
        "comment": ("issue", "comment"),
        "place": (),
        "page": (),
        "job": ("job",),
        "alert": ("alert.rule",),
    }
    MARKS = Markers(
        context=("repository",),
        optional={"place": ("repository",), "page": ("title",), "job": ("issue",)},
        texts={"state": {"issue": ("open",), "comment": ("closed", "open")}},
    )

    def why(self, event: str, *keys: str, **more: JSON) -> str | None:
        return EventMatcher(self.EVENTS, self.MARKS).mismatch(event, {**dict.fromkeys(keys), **more})

    def test_a_required_key(self) -> None:
        assert self.why("comment", "issue") == "without comment"
        assert self.why("alert", alert={}) == self.why("alert", alert="rule") == "without alert.rule"
        assert self.why("alert", alert={"rule": None}) is None
        for payload in (None, [], "issue", 5, ["issue"]):
            assert EventMatcher(self.EVENTS, self.MARKS).mismatch("issue", payload) == "without issue"
            assert EventMatcher(self.EVENTS, self.MARKS).mismatch("place", payload) is None

    def test_the_event_that_explains_the_most_keys(self) -> None:
        assert self.why("issue", "issue", "comment") == "whose body is that of comment"
        assert self.why("comment", "issue", "comment", "new") is None
        assert self.why("issue", "issue", "job") == "whose body is that of job"
        assert self.why("job", "issue", "job", "comment") is None
        assert self.why("alert", "issue", alert={"rule": 1}) is None

    def test_the_context_counts_only_without_another_key(self) -> None:
        assert self.why("issue", "issue", "repository") is None
        assert self.why("place", "repository") is None
        assert self.why("place", "repository", "issue") == "whose body is that of issue"
        assert self.why("place", "repository", "title") == "whose body is that of page"

    def test_a_text_of_another_event(self) -> None:
        assert self.why("issue", "issue", state="closed") == "whose state is closed"
        assert self.why("comment", "issue", "comment", state="closed") is None
        assert self.why("job", "job", state="closed") is None
        values: list[JSON] = ["merged", "", None, 5, [], {}]
        for new in values:
            assert self.why("issue", "issue", state=new) is None

    def test_an_event_that_is_unknown_or_a_type_without_marks(self) -> None:
        assert self.why("new", "issue") is None
        assert EventMatcher(self.EVENTS, None).mismatch("issue", {"issue": 1, "comment": 1}) is None
        assert EventMatcher(self.EVENTS, None).mismatch("comment", {"issue": 1}) == "without comment"
