"""Load on one URL over keep-alive connections: wrk where it is installed, else a small generator of our own.

As a program it is that generator: `python -m bench.load PORT SECONDS CONNECTIONS` prints a Load as JSON.
"""

import argparse
import asyncio
import json
import re
import shutil
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from typing import Final

import uvloop

_FIELDS: Final = {
    "User-Agent": "bench/1.0 (loopback)",
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate",
    "Authorization": "Bearer 0123456789abcdef0123456789abcdef",
}
_TARGET: Final = "/api/stats/64b7f0c2a1d3e4f5a6b7c8d9?fields=title,status"
_UNITS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0}


@dataclass(frozen=True, slots=True)
class Load:
    """What a server did under load: answers a second, milliseconds that half and 99 % of them took at most."""

    per_second: float
    p50: float
    p99: float


async def load(port: int, *, seconds: float, connections: int = 32) -> Load:
    """Ask 127.0.0.1:`port` as fast as it answers. Raises RuntimeError when an answer is wrong or missing."""
    whole = max(1, round(seconds))
    if shutil.which("wrk"):
        fields = [part for name, value in _FIELDS.items() for part in ("-H", f"{name}: {value}")]
        url = f"http://127.0.0.1:{port}{_TARGET}"
        command = ["wrk", "-t1", f"-c{connections}", f"-d{whole}s", "--latency", *fields, url]
        return _read_wrk(await _output_of(command, deadline=whole + 10))
    command = [sys.executable, "-m", "bench.load", str(port), str(whole), str(connections)]
    return Load(**json.loads(await _output_of(command, deadline=whole + 10)))


async def _output_of(command: list[str], *, deadline: float) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(deadline):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with status {process.returncode}")
    return output.decode()


def _read_wrk(text: str) -> Load:
    if trouble := re.search(r"(Non-2xx or 3xx responses|Socket errors).*", text):
        raise RuntimeError(trouble[0])
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    percentiles = {share: float(number) * _UNITS[unit] for share, number, unit in _latencies(text)}
    if rate is None:
        raise RuntimeError("wrk reported no rate")
    return Load(float(rate[1]), percentiles["50"], percentiles["99"])


def _latencies(text: str) -> list[tuple[str, str, str]]:
    return re.findall(r"^\s+(\d+)%\s+([\d.]+)(us|ms|s)$", text, re.MULTILINE)


async def _generate(port: int, seconds: float, connections: int) -> Load:
    head = "".join(f"{name}: {value}\r\n" for name, value in _FIELDS.items())
    request = f"GET {_TARGET} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{head}\r\n".encode()
    end = time.perf_counter() + seconds
    taken: list[float] = []
    async with asyncio.timeout(seconds + 5), asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(_keep_asking(port, request, end, taken))
    cuts = statistics.quantiles(taken, n=100)
    return Load(len(taken) / seconds, cuts[49] * 1000, cuts[98] * 1000)


async def _keep_asking(port: int, request: bytes, end: float, taken: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (start := time.perf_counter()) < end:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        if not head.startswith(b"HTTP/1.1 200") or length is None:
            raise RuntimeError(f"unexpected answer: {head[:40]!r}")
        await reader.readexactly(int(length[1]))
        taken.append(time.perf_counter() - start)
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("connections", type=int)
    arguments = parser.parse_args()
    done = uvloop.run(_generate(arguments.port, arguments.seconds, arguments.connections))
    sys.stdout.write(json.dumps(asdict(done)))


if __name__ == "__main__":
    main()
