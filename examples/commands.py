"""Runs a command to its end, under a deadline, with Node and this Python on PATH."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.node import node_environment


@dataclass(frozen=True, slots=True)
class Account:
    """The unprivileged user that a program runs as."""

    user: int
    group: int


class CommandFailed(Exception):
    """A command that should have ended well did not; the message says which and the end of what it printed."""


async def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    account: Account | None = None,
    seconds: float = 30.0,
) -> str:
    """Run a command to its end and return what it printed. Raises CommandFailed; it is killed after `seconds`."""
    command = await asyncio.create_subprocess_exec(
        *argv,
        cwd=cwd,
        env={**node_environment(), **(env or {})},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        user=account.user if account else None,
        group=account.group if account else None,
        extra_groups=[] if account else None,
    )
    try:
        async with asyncio.timeout(seconds):
            printed, _ = await command.communicate(stdin.encode())
    except TimeoutError:
        raise CommandFailed(f"{_named(argv)} did not end within {seconds:g} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            os.killpg(command.pid, signal.SIGKILL)
    text = printed.decode(errors="replace")
    if command.returncode != 0:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        raise CommandFailed(f"{_named(argv)} ended with status {command.returncode}: {' | '.join(lines[-8:])}")
    return text


def _named(argv: Sequence[str | os.PathLike[str]]) -> str:
    return " ".join(os.fspath(part).strip().splitlines()[0] for part in argv)[:200]
