"""The Node process that runs Prisma Client: started with a socket of its own, ended with its owner."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from adapters.engine.errors import EngineGone
from adapters.node import NodeMissing, find_node

PROGRAM: Final = Path(__file__).resolve().parents[2] / "prisma" / "engine.mjs"
_LONGEST_SOCKET: Final = 100  # a Unix socket's path must fit into 108 bytes, on some systems 104


@dataclass(frozen=True, slots=True)
class Settings:
    """What an engine process is told: seconds, connections, calls; `client` is the folder of a JavaScript client, `owner`
    the replica that PostgreSQL shall know its connections by."""

    database_url: str
    pool: int = 10
    connect: float = 3.0
    timeout: float = 10.0
    limit: int = 4096
    node: Path | None = None
    client: Path | None = None
    owner: str = ""
    start_timeout: float = 20.0
    grace: float = 5.0

    def environment(self) -> dict[str, str]:
        client = {"STRANGLER_CLIENT": str(self.client)} if self.client else {}
        return (
            os.environ
            | client
            | {
                "DATABASE_URL": self.database_url,
                "STRANGLER_OWNER": self.owner,
                "STRANGLER_POOL": str(self.pool),
                "STRANGLER_CONNECT_MS": str(int(self.connect * 1000)),
                "STRANGLER_TIMEOUT_MS": str(int(self.timeout * 1000)),
                "STRANGLER_IN_FLIGHT": str(self.limit),
                "STRANGLER_GRACE_MS": str(int(self.grace * 1000)),
            }
        )


class EngineProcess:
    """One Node process. Make it with `start`; `stop` it always, also after it has ended by itself."""

    def __init__(self, process: Process, folder: Path, grace: float) -> None:
        self._process = process
        self._folder = folder
        self._grace = grace

    @classmethod
    async def start(cls, settings: Settings) -> EngineProcess:
        """When it returns, the process listens on `socket`. Raises EngineGone."""
        folder = _private_folder()
        try:
            node = settings.node or find_node()
            # Its standard input stays open as long as this process lives: that is how it learns that we are gone.
            # A session of its own: a signal to the whole group must not end it while its owner still settles what it
            # wrote. It ends with its parent all the same, when its standard input closes.
            process = await asyncio.create_subprocess_exec(
                node,
                PROGRAM,
                folder / "engine.sock",
                stdin=PIPE,
                stdout=PIPE,
                env=settings.environment(),
                start_new_session=True,
            )
        except (OSError, NodeMissing) as error:
            shutil.rmtree(folder)
            raise EngineGone(f"the engine could not be started: {error}", sent=False) from error
        started = cls(process, folder, settings.grace)
        try:
            await started._ready(settings.start_timeout)
        except BaseException:
            await started.stop()
            raise
        return started

    @property
    def socket(self) -> Path:
        return self._folder / "engine.sock"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.returncode

    def kill(self) -> None:
        """At once; `stop` it all the same."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def stop(self) -> None:
        """It finishes what is in flight and ends; what takes longer than its grace is killed."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(self._grace + 1):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _ready(self, seconds: float) -> None:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(seconds):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise EngineGone(f"the engine was not ready within {seconds:g} s", sent=False) from None
        if line != b"ready\n":
            status = await self._process.wait()
            raise EngineGone(f"the engine ended before it was ready, with status {status}", sent=False)


def _private_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="strangler-")  # for its owner only
    if len(os.fsencode(folder)) > _LONGEST_SOCKET - len("/engine.sock"):
        os.rmdir(folder)
        folder = tempfile.mkdtemp(prefix="strangler-", dir="/tmp")
    return Path(folder)
