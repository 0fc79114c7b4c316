"""A coordinator that stays: `strangler flag set` without its start, one flip after the other, and killed at a step if told.

On standard input a line of JSON for each flip: {"entity", "to", "dies_at"}. On standard output a line for each step, and at
the end `done`, or `refused` with why.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

import uvloop

from adapters.side import SideError
from config.model import Stage
from proxy import events
from proxy.cli.command import connected, coordinator, read
from proxy.cutover.coordinator import Cutover, Refused
from proxy.cutover.flip import Step


class Fate:
    """The step at which this process is to die."""

    def __init__(self) -> None:
        self.step: str | None = None

    async def reached(self, step: Step) -> None:
        if step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


async def run() -> None:
    events.configure("console", "critical")
    found, settings, schema = read(None)
    fate = Fate()
    async with connected(found, settings, schema) as stores:
        cutover = coordinator(found, stores, schema, reached=fate.reached)
        say("ready")
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = json.loads(line)
            fate.step = order["dies_at"]
            await flip(cutover, order["entity"], Stage(order["to"]))


async def flip(cutover: Cutover, entity: str, to: Stage) -> None:
    try:
        # Past the guards, which have tests of their own: a verification for each flip would take longer than the flips.
        async for step in cutover.flip(entity, to, "faults", force=True):
            say(step)
    except (Refused, SideError) as error:
        say(f"refused {error}".replace("\n", " "))
    else:
        say("done")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(run())
