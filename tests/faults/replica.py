"""`strangler serve` for a campaign: it kills itself at a step that it is told of, and may disobey a rule of the protocol.

Nothing of a proxy that serves knows of this: the hook and the disobedience are put in from here.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
from functools import partial
from unittest import mock

import uvloop

from config.load import load
from config.schema import load_schema
from config.settings import read_settings
from proxy import events, serve
from proxy.app import Proxy
from proxy.replication.steps import Step
from tests.faults.broken import RULES


class Fate:
    """What this process is to die of."""

    def __init__(self) -> None:
        self._step: str | None = None
        self._left = 0

    async def reached(self, step: Step) -> None:
        if step == self._step:
            self._left -= 1
            if self._left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    async def hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            order = json.loads(line)
            self._step, self._left = (order["step"], order["after"]) if order["after"] else (None, 0)
            writer.write(line)


async def run(control: str, name: str) -> None:
    environment = dict(os.environ)
    settings = read_settings(environment)
    schema = load_schema()
    events.configure(settings.log, settings.log_level)
    fate = Fate()
    host, _, port = control.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{name}\n".encode())
    hearing = asyncio.create_task(fate.hear(reader, writer))
    try:
        with mock.patch.object(serve, "Proxy", partial(Proxy, reached=fate.reached)):
            await serve.serve(load(settings.config, environment, schema), settings, schema)
    finally:
        hearing.cancel()
        writer.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--control", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--broken", choices=sorted(RULES))
    options = parser.parse_args()
    with RULES[options.broken].disobeyed() if options.broken else contextlib.nullcontext():
        uvloop.run(run(options.control, options.name))


if __name__ == "__main__":
    main()
