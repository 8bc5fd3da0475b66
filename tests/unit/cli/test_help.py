"""The help texts: one imperative line for each command and option, not cut at 80 columns."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from bridge import __version__
from bridge.cli import main

#: The columns that Click uses in a terminal with 80.
WIDTH = 78

#: First words that are no verb.
NO_VERB = re.compile(r"(All?|An?|Any|At|Each|Every|How|If|In|Its?|No|Of|On|Only|Such|The|Those|Wh\w+|With)\b")
#: Verbs that are not in their plain form.
NOT_BARE = re.compile(r"\w+(ing|ed|[^s]s)\b")


def commands(command: click.Command = main, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command and group with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, *path, name)


COMMANDS = list(commands())


def rows(help_text: str, heading: str) -> list[str]:
    """The lines below a heading of Click's, up to the next empty line."""
    return re.findall(r".+", help_text.partition(f"\n{heading}:\n")[2].split("\n\n")[0])


def is_imperative(text: str) -> bool:
    """Whether it may be: English has no sure sign."""
    return bool(re.match(r"[A-Z]", text)) and not re.match(NO_VERB, text) and not NOT_BARE.match(text)


each_command = pytest.mark.parametrize(
    ("path", "command"), COMMANDS, ids=[" ".join(path) or "theeye-bridge" for path, _ in COMMANDS]
)


@each_command
def test_help_is_one_imperative_line_each(path: tuple[str, ...], command: click.Command) -> None:
    first, _, more = (command.help or "").partition("\n\n")
    assert re.fullmatch(r"[^\n.]+\.", first), first
    assert is_imperative(first), first
    assert not more or re.fullmatch(r"(?s)[A-Z].*\.", more.strip()), more
    for option in command.params:
        if isinstance(option, click.Option):
            text = option.help or ""
            assert is_imperative(text), text
            assert re.fullmatch(r"[^\n]+[.…](  \[default: [^\]]+\])?", text), text


@each_command
def test_no_help_is_cut_or_wrapped_at_80_columns(path: tuple[str, ...], command: click.Command) -> None:
    context = click.Context(command, info_name=" ".join(("theeye-bridge", *path)), terminal_width=WIDTH)
    text = command.get_help(context)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "..." not in "".join(rows(text, "Commands"))
    options = rows(text, "Options")
    assert len(options) == len(command.get_params(context)) - sum(
        isinstance(each, click.Argument) for each in command.params
    ), "\n".join(options)


@each_command
def test_a_commands_file_is_named_after_it(path: tuple[str, ...], command: click.Command) -> None:
    if path:
        assert command.callback is not None
        assert command.callback.__module__ == f"bridge.cli.{path[0].replace('-', '_')}"


def test_the_version_is_that_of_the_package() -> None:
    """Also where the environment is wrong."""
    result = CliRunner().invoke(main, ["--version"], env={"PORT": "none"})
    assert (result.exit_code, result.output) == (0, f"theeye-bridge {__version__}\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_line_for_completion_is_click_s(shell: str) -> None:
    assert "_THEEYE_BRIDGE_COMPLETE=bash_source theeye-bridge" in CliRunner().invoke(main, ["--help"]).output
    environ = {"_THEEYE_BRIDGE_COMPLETE": f"{shell}_source"}
    result = CliRunner().invoke(main, [], prog_name="theeye-bridge", env=environ)
    assert result.exit_code == 0
    assert "theeye-bridge" in result.output
