"""nginx in a separate process, for tests of the configurations in the docs."""

from __future__ import annotations

from pathlib import Path

from tests.support.daemon import Daemon, listens, require_program


class Nginx(Daemon):
    """nginx with everything that it writes in `folder`."""

    def __init__(self, config: str, folder: Path, port: int) -> None:
        """`config` is the text of nginx.conf and listens on `port` of 127.0.0.1.

        Raises FileNotFoundError where the machine has no nginx.
        """
        super().__init__(folder / "start.log")
        self._program, self._folder, self.port = require_program("nginx"), folder, port
        (folder / "nginx.conf").write_text(config)

    def _command(self) -> list[str]:
        started_with = f"daemon off; pid {self._folder / 'nginx.pid'};"
        places = ["-p", str(self._folder), "-c", str(self._folder / "nginx.conf"), "-e", str(self._log)]
        return [self._program, *places, "-g", started_with]

    def _works(self) -> bool:
        return listens(self.port)
