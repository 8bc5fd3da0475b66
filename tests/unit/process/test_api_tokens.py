"""BRIDGE_API_TOKENS: its form, and the words in which a mistake is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.core.errors import SettingsError
from bridge.core.secrets import Mask, Secret
from bridge.process.api_tokens import ApiToken
from bridge.process.settings import Settings

FIRST, SECOND = "first-token-0001", "SECOND/token+0002.~_=="

TWO = (ApiToken("grafana", "read", Secret(FIRST)), ApiToken("deploy-bot.2", "write", Secret(SECOND)))


@pytest.mark.parametrize(
    "text",
    [
        f"grafana:read:{FIRST},deploy-bot.2:write:{SECOND}",
        f" grafana:read:{FIRST} , deploy-bot.2:write:{SECOND} ,",
        f"grafana:read:{FIRST}\r\ndeploy-bot.2:write:{SECOND}\n\n",
    ],
)
def test_tokens_are_read_from_the_variable_and_from_a_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_bytes(text.encode())
    for environ in ({"BRIDGE_API_TOKENS": text}, {"BRIDGE_API_TOKENS_FILE": str(tmp_path / "tokens")}):
        assert Settings.from_environ(environ).api_tokens == TWO


@pytest.mark.parametrize("text", ["", ",", " \n"])
def test_without_an_entry_there_is_no_token(text: str) -> None:
    assert Settings.from_environ({"BRIDGE_API_TOKENS": text}).api_tokens == ()


def test_tokens_are_masked_and_not_in_the_settings_text() -> None:
    settings = Settings.from_environ({"BRIDGE_API_TOKENS": f"grafana:read:{FIRST}"})
    assert Mask(settings.secrets)(f"the token {FIRST}.") == "the token <secret>."
    assert FIRST not in repr(settings)


@pytest.mark.parametrize(
    ("entry", "mistake"),
    [
        (FIRST, "expected name:right:token, such as grafana:read:…"),
        (f"bot:{FIRST}", "expected name:right:token, such as grafana:read:…"),
        (f"bot:read:{FIRST}:x", "expected name:right:token, such as grafana:read:…"),
        (f":read:{FIRST}", "a name is 1 to 100 letters, digits, dots, hyphens or underscores"),
        (f"{'n' * 101}:read:{FIRST}", "a name is 1 to 100 letters, digits, dots, hyphens or underscores"),
        (f"my bot:read:{FIRST}", "a name is 1 to 100 letters, digits, dots, hyphens or underscores"),
        (f"bot:admin:{FIRST}", "the right, its second part, must be read or write"),
        (f"bot:Read:{FIRST}", "the right, its second part, must be read or write"),
        (f"{FIRST}:bot:read", "the right, its second part, must be read or write"),
        (
            f"bot:read:{FIRST[:15]}",
            "the token has fewer than 16 characters; create one with openssl rand -hex 32",
        ),
        ("bot:read:a token with blanks", "the token may have only letters, digits and -._~+/, then ="),
        ("bot:read:a-tökén-with-accents", "the token may have only letters, digits and -._~+/, then ="),
        (f"earlier:write:{FIRST}", "an earlier entry has the same name"),
        ("bot:read:an-earlier-token", "an earlier entry has the same token"),
    ],
)
def test_a_mistake_is_named_without_the_entry(entry: str, mistake: str) -> None:
    environ = {"BRIDGE_API_TOKENS": f"earlier:read:an-earlier-token,{entry}"}
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ(environ)
    assert str(caught.value) == f"BRIDGE_API_TOKENS: entry 2: {mistake}"
