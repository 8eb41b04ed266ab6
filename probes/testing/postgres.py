"""A real PostgreSQL server of one's own: a fresh cluster in a temporary folder, a Unix socket, no network."""

import glob
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import sql

USER = "sif"


class PostgresUnavailableError(RuntimeError):
    """PostgreSQL's server programs are not installed, or nobody but root could run them."""


class PostgresServer:
    """Starts a server and removes it again; use as a context manager.

    PostgreSQL refuses to run as root, so root runs it as the ``postgres`` user that its package brings.

    Args:
        durable: commits wait for the disk. Otherwise they do not: what is in the cluster need not outlive the
            machine.
    """

    def __init__(self, *, durable: bool = False) -> None:
        binaries = _binaries()
        self._as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._as_user = {"user": "postgres", "group": "postgres", "extra_groups": []}
        # pytest's own folders may be entered by their owner alone, and a socket's path is 107 bytes at most
        self._folder = Path(tempfile.mkdtemp(prefix="sif-pg-", dir="/tmp"))
        if self._as_user:
            try:
                shutil.chown(self._folder, "postgres", "postgres")
            except LookupError:
                shutil.rmtree(self._folder)
                raise PostgresUnavailableError("root cannot run PostgreSQL: no user postgres") from None
        data = self._folder / "data"
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", USER, "--auth=trust", "--no-sync", "--locale=C.UTF-8"],
            cwd=self._folder,
            check=True,
            capture_output=True,
            timeout=120,
            **self._as_user,
        )
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._folder),
            "fsync": "on" if durable else "off",
            "max_connections": "200",
            "shared_buffers": "32MB",
        }
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        # where util-linux is there, a test run that is killed takes its server with it
        dies_with_us = ["setpriv", "--pdeathsig=QUIT"] if shutil.which("setpriv") else []
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*dies_with_us, binaries / "postgres", "-D", data, *flags],
                cwd=self._folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                **self._as_user,
            )
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of a database of this server."""
        return f"postgresql+psycopg://{USER}@/{database}?host={self._folder}"

    @property
    def pid(self) -> int:
        """The server's first process, parent of all its others."""
        return self._process.pid

    def create(self, database: str) -> str:
        """Create an empty database; returns its URL."""
        with self._connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
        return self.url(database)

    def close(self) -> None:
        """Stop the server, whoever is connected, and remove its folder."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)  # PostgreSQL's "immediate" shutdown
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(timeout=20)
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(host=str(self._folder), user=USER, dbname="postgres", autocommit=True)

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                self._connect().close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    said = (self._folder / "log").read_text("utf-8", "replace")[-500:]
                    raise PostgresUnavailableError(f"PostgreSQL does not start: {said}") from None
                time.sleep(0.05)


def _binaries() -> Path:
    """The newest installed server's programs: Debian keeps them off the PATH."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda path: float(path.split("/")[4]))
    initdb = found[-1] if found else shutil.which("initdb")
    if initdb is None:
        raise PostgresUnavailableError("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    return Path(initdb).parent
