"""Runs one program and never leaves it behind: the process between us and a server that we started.

Standard input is the line to the parent: its end means that the parent is done or dead, however it died, and the
program's group is stopped: asked first, then killed. The program's process id, which is also its group's, is the one
line on standard output; what the program itself prints goes to standard error.
Run as `python guard.py '{"argv": [...], "stop": 15, "grace": 5.0, "user": null}'`, with the standard library alone.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any


def stop_with_parent(program: subprocess.Popen[bytes], stop: int, grace: float) -> None:
    while os.read(0, 1024):
        pass
    send(program, stop)
    send(program, signal.SIGCONT)  # a paused program hears the request only then
    try:
        program.wait(grace)
    except subprocess.TimeoutExpired:
        send(program, signal.SIGKILL)


def send(program: subprocess.Popen[bytes], number: int) -> None:
    # It may have ended by itself in the meantime; macOS says "not permitted" of a group that is all zombies.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(program.pid, number)


def main() -> int:
    order: dict[str, Any] = json.loads(sys.argv[1])
    account = {} if order["user"] is None else {"user": order["user"], "group": order["group"], "extra_groups": []}
    try:
        program = subprocess.Popen(
            order["argv"], stdin=subprocess.DEVNULL, stdout=sys.stderr, process_group=0, **account
        )
    except OSError as error:
        print(f"cannot start {order['argv'][0]}: {error.strerror}", file=sys.stderr)
        return 127
    print(program.pid, flush=True)
    threading.Thread(target=stop_with_parent, args=(program, order["stop"], order["grace"]), daemon=True).start()
    status = program.wait()
    # What the program itself started goes with it.
    send(program, signal.SIGKILL)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    # Ctrl-C and a polite kill are for the parent to answer; its end of the line says what it decided.
    # A handler, because SIG_IGN would be inherited by the program.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    sys.exit(main())
