"""A first table: it passes check, and what init says to paste opens the bridge."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bridge.cli import main
from bridge.config.load import load
from bridge.core.event import Request
from bridge.core.job import JobState
from bridge.core.secrets import Mask, Secret
from bridge.intake.receive import Receiver
from bridge.sources.base.source_type import SourceType
from tests.support.intake import TASK, Intake, sender_request
from tests.unit.config.test_schema import SCHEMA, as_an_editor_reads, read
from tests.unit.sources.test_sources import (
    AWS,
    NOW,
    SECRET,
    TYPES,
    a_secret,
    all_samples,
    each_type,
    event_name,
)

#: What a person must look up.
LOOKED_UP = {"_KEY": "k1" * 32, "_TASK_ID": TASK, "THEEYE_CUSTOMER": "acme"}

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Commands over the table in a folder that is not there yet."""

    def run(*arguments: str, **variables: str) -> Result:
        environ = {"BRIDGE_CONFIG": str(tmp_path / "config"), **variables}
        return CliRunner().invoke(main, arguments, env=environ)

    return run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config" / "routes.yml"


def variables_of(output: str) -> dict[str, str]:
    """Return the variables as a shell sets them, with the values that a person looks up."""
    pasted = "".join(re.findall(r"^    export .*\n", output, re.MULTILINE))
    shell = subprocess.run(
        ["/bin/sh", "-eu"], input=pasted + "env", env={}, capture_output=True, text=True, check=True
    )
    exported = re.findall(r"^    export (\w+)=", pasted, re.MULTILINE)
    values = dict(line.split("=", 1) for line in shell.stdout.splitlines())
    known = {name: value for name in exported for end, value in LOOKED_UP.items() if name.endswith(end)}
    assert {values[name] for name in known} <= {""}
    return {name: known.get(name, values[name]) for name in exported}


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    intake = Intake("routes: []", tmp_path)
    intake.clock.now = NOW
    yield intake
    intake.close()


@each_type
class TestEveryType:
    def test_what_it_writes_passes_check(self, source_type: SourceType, run: Run, path: Path) -> None:
        result = run("init", "--source", source_type.name)
        assert result.exit_code == 0, result.output
        assert "warning" not in result.output
        assert path.read_text().startswith("# yaml-language-server: $schema=schema.json\n")
        assert list(SCHEMA.iter_errors(as_an_editor_reads(read(path)))) == []
        variables = variables_of(result.output)
        if source_type.proofs[0].key in source_type.sender_issued:
            unset = [name for name, value in variables.items() if value == ""]
            assert len(unset) == 1
            variables[unset[0]] = the_senders(source_type)
        assert run("check").exit_code == 0
        strict = run("check", "--env", **variables)
        assert strict.output.endswith(": 1 source, 1 task, 1 route; no mistakes, 0 warnings\n")
        assert strict.output.count("\n") == 1
        for name in variables:
            assert run("check", "--env", **{**variables, name: ""}).exit_code == 1

    def test_what_it_says_to_paste_opens_the_bridge(
        self, source_type: SourceType, run: Run, path: Path, intake: Intake
    ) -> None:
        output = run("init", "--source", "here", "--type", source_type.name).output
        sender_issued = source_type.proofs[0].key in source_type.sender_issued
        secret = the_senders(source_type) if sender_issued else pasted(output)
        variables = {
            name: value if value in LOOKED_UP.values() else secret
            for name, value in variables_of(output).items()
        }
        assert sender_issued or variables_of(output) == variables
        loaded = load(path, variables, TYPES)
        intake.table = loaded.table
        intake.receiver = Receiver(loaded.table, intake.outbox, intake.refusals, Mask(), intake.clock)
        source, client = loaded.table.sources["here"], intake.app().test_client()

        def status_of(sent: Request) -> int:
            query, headers = dict(sent.query), dict(sent.headers)
            return client.post("/hooks/here", query_string=query, data=sent.body, headers=headers).status_code

        for sample in (sample for one, sample in all_samples() if one is source_type):
            event = event_name(source_type, sample)
            request = replace(sender_request(source, event, sample.read_bytes()), received_at=NOW)
            is_sns = source_type.name == "sns"
            signed = AWS.prove(request, SECRET) if is_sns else source.sign(request)
            assert status_of(request) == 401
            assert status_of(signed) in (200, 202)
        states = {job.state for job in intake.jobs()}
        assert JobState.DEAD not in states
        # Of Stripe there is no sample of the event that its example names.
        assert JobState.WAITING in states or source_type.name == "stripe"


def the_senders(source_type: SourceType) -> str:
    """A secret as the sender gives it out."""
    known = a_secret(source_type.proofs[0])
    return known.reveal() if isinstance(known, Secret) else str(known)


def pasted(output: str) -> str:
    """The secret that a person reads under the sender's name."""
    sender = output.partition("2. Set these variables")[0]
    (secret,) = re.findall(r"(?:secret: |token: |password: |\?token=)([0-9a-f]{64})$", sender, re.MULTILINE)
    return str(secret)


def test_where_its_schema_is_not_beside_it_it_says_how_to_have_it(run: Run, path: Path) -> None:
    output = run("init", "--source", "github").output
    assert f"theeye-bridge schema > {path.with_name('schema.json')}\n" in output
    path.unlink()
    path.with_name("schema.json").write_text("{}")
    assert "bridge schema" not in run("init", "--source", "github").output


def test_two_runs_share_only_the_organization(run: Run, path: Path) -> None:
    first = run("init", "--source", "github").output
    second = run("init", "--source", "gitlab", "--path", str(path.with_name("gitlab.yml"))).output
    assert set(variables_of(first)) == {
        "GITHUB_SECRET", "GITHUB_TASK_KEY", "GITHUB_TASK_ID", "THEEYE_CUSTOMER",
    }  # fmt: skip
    assert set(variables_of(second)) == {"GITLAB_TOKEN", "GITLAB_TASK_KEY", "GITLAB_TASK_ID"}
    variables = {**variables_of(first), **variables_of(second), "GITLAB_TASK_ID": f"{TASK[:-1]}9"}
    assert (
        "2 sources, 2 tasks, 2 routes; no mistakes, 0 warnings" in run("check", "--env", **variables).output
    )


def test_the_url_is_where_serve_listens_unless_it_is_given(run: Run, path: Path) -> None:
    local = run("init", "--source", "github", PORT="9123").output
    assert "    URL: http://127.0.0.1:9123/hooks/github\n" in local
    assert "replace http://127.0.0.1:9123 by the" in local
    path.unlink()
    public = run("init", "--source", "github", "--url", "https://bridge.example.org").output
    assert "    URL: https://bridge.example.org/hooks/github\n" in public
    assert "replace http" not in public


def test_each_secret_is_another(run: Run) -> None:
    first, second = (run("init", "--source", "github", "--path", "-").output for _ in range(2))
    assert pasted(first) != pasted(second)


def test_it_never_overwrites(run: Run, path: Path) -> None:
    run("init", "--source", "github")
    before = path.read_text()
    again = run("init", "--source", "gitlab")
    assert (again.exit_code, path.read_text()) == (1, before)
    assert (
        "routes.yml already exists\n    hint: choose another file in the folder with --path" in again.output
    )
    assert "Traceback" not in again.output


def test_a_second_file_leaves_theeye_to_the_first(run: Run, path: Path) -> None:
    run("init", "--source", "github")
    second = path.with_name("gitlab.yml")
    assert run("init", "--source", "gitlab", "--path", str(second)).exit_code == 0
    assert "theeye" not in second.read_text()
    assert "2 sources, 2 tasks, 2 routes; no mistakes" in run("check").output


def test_a_second_file_brings_theeye_where_the_first_lacks_it(run: Run, path: Path) -> None:
    path.parent.mkdir()
    path.with_name("alerts.yml").write_text("sources: {alertmanager: {allow_unsigned: true}}\n")
    assert run("init", "--source", "github").exit_code == 0
    assert run("check").exit_code == 0


def test_a_customer_that_another_file_has_is_not_written(run: Run, path: Path) -> None:
    path.parent.mkdir()
    path.with_name("main.yml").write_text("theeye: {customer: acme}\n")
    result = run("init", "--source", "github", "--customer", "acme")
    assert result.exit_code == 1
    assert "routes.yml is not written: the table would have" in result.output
    assert "customer is defined twice" in result.output
    assert not path.exists()


def test_mistakes_that_were_there_before_are_not_laid_to_the_new_file(run: Run, path: Path) -> None:
    run("init", "--source", "github")
    path.write_text(path.read_text().replace("source: github", "source: githob"))
    result = run("init", "--source", "gitlab", "--path", str(path.with_name("gitlab.yml")))
    assert result.exit_code == 0
    assert "warning: the other files of the table have mistakes; run `check`\n" in result.stderr
    output = run("check").output
    assert "githob" in output
    assert "gitlab.yml" not in re.sub(".*warning: .*", "", output)


@pytest.mark.parametrize("name", ["config/x.txt", "config/.x.yml", "config/sub/x.yml", "x.yml", "new/x.yml"])
def test_what_the_table_would_not_read_is_not_written(run: Run, path: Path, name: str) -> None:
    target = path.parents[1] / name
    result = run("init", "--source", "github", "--path", str(target))
    assert result.exit_code == 2
    table = f"the .yml and .yaml files in {path.parent}; --path - prints"
    assert f"--path: {target} is not part of the table; BRIDGE_CONFIG names {table}" in result.output
    assert not list(path.parents[1].iterdir())


def test_a_table_of_one_file_has_none_beside_it(run: Run, path: Path) -> None:
    one = str(path.with_name("table.yaml"))
    assert run("init", "--source", "github", BRIDGE_CONFIG=one).exit_code == 0
    beside = run("init", "--source", "gitlab", "--path", str(path), BRIDGE_CONFIG=one)
    assert beside.exit_code == 2
    assert f"BRIDGE_CONFIG names one file, {one}; --path - prints" in beside.output
    assert not path.exists()
    again = run("init", "--source", "gitlab", BRIDGE_CONFIG=one).output
    assert "already exists\n    hint: print the table with --path -\n" in again
    Path(one).rename(path.with_name("table"))
    assert "table already exists" in run("init", "--source", "gitlab", BRIDGE_CONFIG=one[:-5]).output


def test_what_does_not_fit_the_others_is_not_written(run: Run, path: Path) -> None:
    run("init", "--source", "github")
    second = path.with_name("second.yml")
    result = run("init", "--source", "github", "--path", str(second))
    assert result.exit_code == 1
    assert "second.yml is not written" in result.output
    assert "github is defined twice" in result.output
    assert not second.exists()


def test_a_table_on_standard_output_has_what_to_do_beside_it(run: Run, path: Path) -> None:
    result = run("init", "--source", "github", "--path", "-")
    assert "routes:" in result.stdout
    assert "Set up the webhook" not in result.stdout
    assert (
        "1. Set up the webhook at GitHub:\n\n    URL: http://127.0.0.1:8000/hooks/github\n" in result.stderr
    )
    assert not path.exists()


def test_what_is_said_stands_in_the_table(run: Run, path: Path) -> None:
    result = run(
        *("init", "--source", "alerts", "--type", "alertmanager", "--task", TASK, "--key", "PAGE_KEY"),
        *("--customer", "acme: one", "--event", "firing", "--argument", "item.labels.alertname"),
        *("--argument", "a: ${{ index }} # of", "--url", "https://bridge.example.org/base"),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert set(variables_of(result.output)) == {"ALERTS_BEARER_TOKEN", "PAGE_KEY"}
    assert "URL: https://bridge.example.org/base/hooks/alerts\n" in result.output
    table = as_an_editor_reads(read(path))
    assert table["theeye"] == {"customer": "acme: one"}
    (route,) = table["routes"]
    assert route["loop"] == "payload.alerts"
    assert (route["source"], route["event"], route["task"]) == ("alerts", "firing", TASK)
    assert route["task_arguments"] == ["${{ item.labels.alertname }}", "a: ${{ index }} # of"]


@pytest.mark.parametrize("argument", ["${{ event }} # of", "a\r${{ event }}"])
def test_an_argument_stands_as_it_is_said(run: Run, path: Path, argument: str) -> None:
    run("init", "--source", "github", "--argument", argument)
    (route,) = as_an_editor_reads(read(path))["routes"]
    assert route["task_arguments"] == [argument]


def test_without_an_item_there_is_no_loop(run: Run, path: Path) -> None:
    run("init", "--source", "alertmanager", "--argument", "payload.status")
    assert "loop" not in path.read_text()
    assert "item" not in path.read_text()


def test_what_reads_an_item_goes_with_the_loop(run: Run, path: Path) -> None:
    run("init", "--source", "bitbucket", "--argument", "payload.repository.name")
    assert "item" not in path.read_text()
    path.unlink()
    run("init", "--source", "bitbucket", "--argument", "item.new.name")
    (route,) = as_an_editor_reads(read(path))["routes"]
    assert (route["loop"], route["when"]) == ("payload.push.changes", 'item.new.type == "branch"')


def test_of_another_event_only_what_each_event_has_is_an_argument(run: Run, path: Path) -> None:
    assert run("init", "--source", "github", "--event", "issues.opened").exit_code == 0
    (route,) = as_an_editor_reads(read(path))["routes"]
    assert route["task_arguments"] == ["${{ event }}", "${{ delivery_id }}"]
    assert "payload" not in path.read_text()


def test_an_event_that_the_type_does_not_know_is_a_warning(run: Run, path: Path) -> None:
    result = run("init", "--source", "github", "--event", "pushh")
    assert result.exit_code == 0
    assert "warning: --event: github has no known event 'pushh'; did you mean push?" in result.output
    assert path.exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("--source", "githb"), "--source: no type is named 'githb'; did you mean github?"),
        (("--type", "githb"), "--type: no type is named 'githb'; did you mean github?"),
        (("--source", "a b", "--type", "github"), "--source: a source's name may contain only letters"),
        (("--task", TASK[1:]), f"--task: unknown task '{TASK[1:]}'\n    hint: "),
        (("--task", "k1" * 32), "--task: unknown task '…' (64 characters)"),
        (("--key", "k1" * 32), "expected the name of a variable, such as TASK_KEY, not the key itself"),
        (("--key", "MY-KEY"), "expected the name of a variable"),
        (("--key", "GITHUB_SECRET"), "--key: the table uses GITHUB_SECRET for another value"),
        (("--key", "GITHUB_TASK_ID"), "--key: the table uses GITHUB_TASK_ID for another value"),
        (("--key", "THEEYE_CUSTOMER"), "--key: the table uses THEEYE_CUSTOMER for another value"),
        (("--customer", "two\nlines"), "--customer: customer: found 'two\\nlines', expected one"),
        (("--event", "${{ event }}"), "--event: found an expression, expected a pattern"),
        (("--argument", "payload.a |"), "--argument: 'payload.a |' is not a valid expression"),
        (("--argument", "payload.a | uper"), "--argument: unknown filter 'uper'; did you mean upper?"),
        (("--argument", "item.x"), "--argument: unknown name 'item'; it exists only in a route with loop"),
        (("--argument", "env.TASK_KEY"), "--argument: "),
        (("--url", "bridge"), "--url: expected an address"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_by_its_flag_and_not_written(
    run: Run, path: Path, wrong: tuple[str, ...], message: str
) -> None:
    result = run("init", "--source", "github", *wrong)
    assert result.exit_code == 2
    assert message in result.output
    assert "k1" * 32 not in result.output
    assert "Traceback" not in result.output
    assert not path.parent.exists()


def test_every_mistake_is_said_at_once(run: Run) -> None:
    output = run("init", "--source", "github", "--task", "1", "--event", "${{ x }}", "--argument", "]").output
    assert all(f"{flag}: " in output for flag in ("--task", "--event", "--argument"))


@pytest.mark.parametrize("folder", ["/dev/null/config", "/proc/config"])
def test_where_nothing_can_be_written_it_says_so(run: Run, folder: str) -> None:
    result = run("init", "--source", "github", BRIDGE_CONFIG=folder)
    assert result.exit_code == 1
    assert "cannot be written" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "name", ["pagerduty", "sentry", "slack", "sns", "standard-webhooks", "stripe", "svix", "zoom"]
)
def test_a_secret_that_the_sender_gives_out_is_not_made_up(run: Run, name: str) -> None:
    output = run("init", "--source", name, "--path", "-").output
    assert re.search(r"^    export \w+=\n", output, re.MULTILINE)
    assert re.search(r"^    \w+: copy it from ", output, re.MULTILINE)
    assert not re.search(r"[0-9a-f]{64}", output)


@pytest.mark.parametrize(
    ("name", "sender"), [("generic", "the sender"), ("github", "GitHub"), ("svix", "the sender")]
)
def test_the_sender_is_named_in_a_sentence(run: Run, name: str, sender: str) -> None:
    result = run("init", "--source", name)
    assert f"1. Set up the webhook at {sender}:\n" in result.output
    assert "copy it from Senders" not in result.output


def test_the_arn_of_sns_is_set_where_the_table_reads_it(run: Run) -> None:
    result = run("init", "--source", "sns")
    assert "Set `topic_arns`, or the variable that it names, to the topic's ARN" in " ".join(
        result.output.split()
    )
    assert "export SNS_TOPIC_ARN=\n" in result.output
