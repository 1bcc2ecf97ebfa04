"""A real PostgreSQL on 127.0.0.1 in a folder of its own, where the server's programs are installed.

with Postgres() as server:
    server.run("CREATE TABLE t AS SELECT 1 AS n")
    server.uri      # postgresql://shop:<password>@127.0.0.1:<port>/postgres
"""

import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PASSWORD = "p%40ss-w0rd"  # as it stands in an address
_STARTS_S = 60.0


def programs() -> Path | None:
    """The folder of the newest PostgreSQL's programs, None where there is none."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda p: int(Path(p).parts[-3]))  # noqa: PTH207
    named = shutil.which("initdb")
    path = found[-1] if found else named
    return Path(path).parent if path and (Path(path).parent / "postgres").exists() else None


class Postgres:
    def __init__(self) -> None:
        bin_ = programs()
        assert bin_ is not None
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._as_user: dict = {}
        if os.getuid() == 0:  # which the server refuses
            user = pwd.getpwnam("postgres" if "postgres" in {p.pw_name for p in pwd.getpwall()} else "nobody")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        secret = self.folder / "password"
        secret.write_text("p@ss-w0rd\n")
        secret.chmod(0o644)
        data = self.folder / "data"
        self._do(bin_ / "initdb", "-D", data, "-U", "shop", "-A", "scram-sha-256", "--pwfile", secret, "--no-sync")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.log = (self.folder / "log").open("w")
        self._server = subprocess.Popen(
            [bin_ / "postgres", "-D", data, "-p", str(self.port), "-h", "127.0.0.1", "-k", self.folder, "-F",
             "-c", "shared_buffers=16MB", "-c", "max_connections=20"],
            cwd=self.folder, stdout=self.log, stderr=self.log, **self._as_user,
        )  # fmt: skip
        self.uri = f"postgresql://shop:{PASSWORD}@127.0.0.1:{self.port}/postgres"
        self._wait()

    def _do(self, *command: object) -> None:
        done = subprocess.run(
            [str(c) for c in command], cwd=self.folder, capture_output=True, text=True, timeout=120, **self._as_user
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _wait(self) -> None:
        limit = time.monotonic() + _STARTS_S
        while True:
            try:
                return self.run("SELECT 1")
            except Exception:  # noqa: BLE001 - it is not there yet
                assert self._server.poll() is None and time.monotonic() < limit, (self.folder / "log").read_text()
                time.sleep(0.1)

    def run(self, *statements: str) -> None:
        import adbc_driver_postgresql.dbapi as postgresql

        with postgresql.connect(self.uri, autocommit=True) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def fill(self, table: str, rows) -> None:
        """Make a table of an Arrow table."""
        import adbc_driver_postgresql.dbapi as postgresql

        with postgresql.connect(self.uri, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.adbc_ingest(table, rows, mode="create")

    def close(self) -> None:
        self._server.send_signal(signal.SIGINT)
        try:
            self._server.wait(20)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait(10)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> "Postgres":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
