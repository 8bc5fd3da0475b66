"""A command imports what it needs: `check` and `test` run in editors and before each commit."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: What only servers and commands with a database need.
HEAVY = {"flask", "werkzeug", "gunicorn", "sqlalchemy", "psycopg", "requests", "urllib3"}


@pytest.mark.parametrize("command", ["check", "test", "schema"])
def test_a_command_without_a_database_imports_no_server(command: str) -> None:
    program = (
        "import sys\n"
        "from bridge.cli import main\n"
        "try:\n"
        f"    main([{command!r}], prog_name='theeye-bridge')\n"
        "except SystemExit:\n"
        "    pass\n"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = set(done.stderr.splitlines()[-1].split())
    assert "bridge" in imported
    assert imported & HEAVY == set()
