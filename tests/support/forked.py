"""Programs of the bridge that start without importing it again: forked off a process that has imported it.

An import takes most of the time of a start. Programs that need an environment before Python starts, such as
LD_PRELOAD, need a process of their own.
"""

from __future__ import annotations

import atexit
import gc
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bridge.http import connection
from tests.support.certificates import one_authority

_CONTEXT = multiprocessing.get_context("forkserver")
# None of these reads the environment as it is imported, as bridge.server.gunicorn_config and bridge.wsgi do.
_CONTEXT.set_forkserver_preload(
    [
        "bridge.cli",
        "bridge.web.application",
        "bridge.server.connection_worker",
        "gunicorn.arbiter",
        __name__,
        # The bridge imports these when it first needs them.
        "alembic.config",
        "alembic.runtime.environment",
        "alembic.script",
        "bridge.sources.sns",
    ]
)
#: Higher ones are not in use.
_MAX_FILE = 1024
#: Seconds that a program may run.
_TIMEOUT = 60.0

_CHECKOUT = Path(__file__).parents[2]


class Forked:
    """A process with a session of its own, in the place of subprocess.Popen."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environ: Mapping[str, str],
        output: Path,
        errors: Path | None = None,
    ) -> None:
        """`command` begins with the interpreter and ``-m``. `output` and `errors`, which is by default the
        same, are opened to append.
        """
        _, _, module, *arguments = command
        files = output, errors or output, one_authority(output.parent)
        self._process = _CONTEXT.Process(
            target=_run, args=(module, arguments, folder, dict(environ), *files), daemon=True
        )
        self._process.start()

    @staticmethod
    def can_run(command: Sequence[str], environ: Mapping[str, str]) -> bool:
        """Whether it is Python with ``-m``, and the environment changes nothing before Python starts."""
        return list(command[:2]) == [sys.executable, "-m"] and not any(
            name.startswith(("LD_", "PYTHON", "MALLOC_")) for name in environ
        )

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(["forked"], timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, how: signal.Signals) -> None:
        if self._process.exitcode is None:
            os.kill(self.pid, how)


def run_program(command: Sequence[str], environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a Python module as a program until it ends, as subprocess.run does. Raises TimeoutExpired."""
    with TemporaryDirectory() as folder:
        output, errors = Path(folder, "output"), Path(folder, "errors")
        process = Forked(command, _CHECKOUT, environ, output, errors)
        try:
            code = process.wait(_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return subprocess.CompletedProcess(
            command, code, output.read_text("utf-8"), errors.read_text("utf-8")
        )


def _run(
    module: str,
    arguments: list[str],
    folder: Path,
    environ: dict[str, str],
    output: Path,
    errors: Path,
    trusted: Path,
) -> None:  # pragma: no cover - in another process
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for path, file in ((output, 1), (errors, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), file)
    os.closerange(3, _MAX_FILE)
    sys.argv[1:] = arguments
    # The collector would look through, and copy, all the memory that is shared with the fork server.
    gc.freeze()
    # Each thread that sends reads the bundle.
    vars(connection)["DEFAULT_CA_BUNDLE_PATH"] = str(trusted)
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        # multiprocessing leaves them out.
        atexit._run_exitfuncs()
