"""A settle that hangs between what it read and what it writes, as a backfill may: `python -m tests.faults.late video`.

It takes the keys as a line of JSON on standard input, says `held` and stops itself (SIGSTOP) once it has read them; when it
is continued it goes on, and says what became of it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys

import uvloop

from adapters.side import Key, SideError
from proxy import events
from proxy.app import parents_of
from proxy.cli.command import connected, read
from proxy.flags.view import Flags
from proxy.replication.settle import Settler
from proxy.replication.steps import Step
from tests.faults.broken import RULES


async def hang(step: Step) -> None:
    if step == "held":
        say("held")
        os.kill(os.getpid(), signal.SIGSTOP)


async def run(entity: str, keys: list[Key]) -> None:
    events.configure("console", "critical")
    found, settings, schema = read(None)
    async with connected(found, settings, schema) as stores:
        flags = Flags(found.entities, stores.by_side())
        await flags.refresh()
        settler = Settler(stores.by_side(), flags, parents_of(found, schema), reached=hang)
        try:
            settled = await settler.settle(entity, keys)
        except SideError as error:
            say(f"refused: {type(error).__name__}")
        else:
            say(f"written: {len(settled.written)}")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("entity")
    parser.add_argument("--broken", choices=sorted(RULES))
    options = parser.parse_args()
    keys = json.loads(sys.stdin.readline())
    with RULES[options.broken].disobeyed() if options.broken else contextlib.nullcontext():
        uvloop.run(run(options.entity, keys))


if __name__ == "__main__":
    main()
