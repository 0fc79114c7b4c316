"""A backfill whose process is killed at a step: `python -m tests.backfill_killed profile landed 2`.

In batches of three keys, one after the other, so that the steps come in one order; at dualwrite, whatever the flags say.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from config.model import Stage
from proxy.app import parents_of
from proxy.cli.command import connected, read
from proxy.flags.view import Flags
from proxy.migration.copy.backfill import Backfill
from proxy.replication.settle import Settler
from proxy.replication.steps import Step
from tests.backfill_case import SHAPE, At, Fixed


async def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def run(entity: str, step: Step, number: int) -> None:
    found, settings, schema = read(None)
    async with connected(found, settings, schema) as stores:
        staged = {name: one.model_copy(update={"stage": Stage.DUALWRITE}) for name, one in found.entities.items()}
        flags = Flags(staged, stores.by_side())
        settler = Settler(stores.by_side(), flags, parents_of(found, schema))
        backfill = Backfill(
            stores.by_side(),
            flags,
            settler,
            shapes=SHAPE,
            pace=Fixed(3),
            workers=1,
            reached=At(step, number, kill),
        )
        await backfill.everything(entity)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3])))  # type: ignore[arg-type]
