"""Octokit: GitHub's own library for its webhooks, in a Node.js of its own, and its examples of them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

#: Where package.json says which release, and where npm installs it.
FOLDER = Path(__file__).parents[1]

#: Seconds for one start of Node.js on a slow machine.
PATIENCE = 60.0

#: Answers a list of [function, arguments…] on standard input with the list of what each gave.
_CALLS = """
import * as methods from "@octokit/webhooks-methods";
let text = "";
for await (const part of process.stdin.setEncoding("utf8")) text += part;
const calls = JSON.parse(text).map(([name, ...rest]) => methods[name](...rest));
process.stdout.write(JSON.stringify(await Promise.all(calls)));
"""


#: A folder for github.com, and one for each release of GitHub Enterprise Server.
_EXAMPLES = FOLDER / "node_modules" / "@octokit" / "webhooks-examples"


def is_present() -> bool:
    """Whether Node.js and the library are installed."""
    package = FOLDER / "node_modules" / "@octokit" / "webhooks-methods" / "package.json"
    return shutil.which("node") is not None and package.is_file()


@dataclass(frozen=True)
class Example:
    """One body that GitHub sent."""

    #: Where it comes from, such as ``api.github.com`` or ``ghes-31``.
    release: str
    event: str
    payload: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.event}.{self.payload.get('action')} of {self.release}"


def examples() -> list[Example]:
    """Every example; none where they are not installed."""
    return [
        Example(path.parent.name, event["name"], payload)
        for path in sorted(_EXAMPLES.glob("*/index.json"))
        for event in orjson.loads(path.read_bytes())
        for payload in event["examples"]
    ]


class Octokit:
    """Calls the library. Every text that is handed over must have something in it."""

    def sign(self, calls: list[tuple[str, str]]) -> list[str]:
        """What it puts into X-Hub-Signature-256, of each secret and body."""
        return [str(each) for each in self._call([("sign", *call) for call in calls])]

    def verify(self, calls: list[tuple[str, str, str]]) -> list[bool]:
        """Whether it accepts each secret, body and X-Hub-Signature-256."""
        return [each is True for each in self._call([("verify", *call) for call in calls])]

    def _call(self, calls: list[tuple[str, ...]]) -> list[Any]:
        done = subprocess.run(
            ["node", "--input-type=module", "--eval", _CALLS],
            cwd=FOLDER,
            input=orjson.dumps(calls),
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
        answers: list[Any] = orjson.loads(done.stdout)
        return answers
