"""Starts the two old Proxim8 servers, as the demo, the tests and the bench do."""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adapters.node import find_node
from examples.processes import Program, program

OldName = Literal["core", "proxim8"]

_PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class OldServer:
    """A running old server: its base URL without a slash at the end, and its process."""

    url: str
    process: Program


@contextlib.asynccontextmanager
async def old_server(
    name: OldName,
    folder: Path,
    *,
    mongo_url: str,
    secret: str,
    port: int = 0,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[OldServer]:
    """Run `core` or `proxim8` on 127.0.0.1 until the block ends; it listens when the block begins.

    `mongo_url` names the database; `port` 0 takes any free one; `secret` is that of the clients' JWTs. `settings` are
    environment variables, which win: proxim8 also knows PUBLIC_URL (where its jobs call the API; its own address by
    default), JOB_DELAY_MS (150), JOB_CAPACITY (200) and JOB_CONCURRENCY (8). Its log is `folder/<name>.log`.
    Raises NotReady.
    """
    environment = {
        "MONGO_URL": mongo_url,
        "JWT_SECRET": secret,
        "PORT": str(port),
        "TMPDIR": str(folder),
        "NODE_ENV": "production",
        **(settings or {}),
    }
    argv: list[str | Path] = [find_node(), _PACKAGE / name / "server.js"]
    async with program(name, argv, folder=folder, env=environment, ready_line='"listening"') as process:
        yield OldServer(f"http://127.0.0.1:{json.loads(process.greeting)['port']}", process)
