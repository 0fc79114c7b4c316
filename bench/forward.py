"""How fast requests are forwarded, beside a minimal aiohttp forwarder and nginx, in one run and interleaved."""

import asyncio
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Final

from bench.figure import Figure
from bench.load import Load, load

_ROUNDS: Final = 5
_SECONDS: Final = 2
_NGINX: Final = """
worker_processes 1; daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors crit;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  upstream old {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://old; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


async def measure() -> list[Figure]:
    """Figures of forwarding a GET whose answer is a small JSON, over 32 keep-alive connections. Takes under a minute."""
    async with AsyncExitStack() as running:
        upstream = await running.enter_async_context(_serving("bench.small_upstream"))
        old = f"http://127.0.0.1:{upstream}"
        ports = {
            "ours": await running.enter_async_context(_serving("bench.our_forwarder", old)),
            "aiohttp": await running.enter_async_context(_serving("bench.peer_forwarder", old)),
        }
        if shutil.which("nginx"):
            ports["nginx"] = await running.enter_async_context(_nginx(upstream))
        for port in ports.values():
            await load(port, seconds=1)
        rounds = [await _round(ports, turn) for turn in range(_ROUNDS)]
    return _figures(rounds)


async def _round(ports: dict[str, int], turn: int) -> dict[str, Load]:
    """Each server once; every other round in the opposite order, so that what drifts hits all alike."""
    order = list(ports) if turn % 2 == 0 else list(reversed(ports))
    return {name: await load(ports[name], seconds=_SECONDS) for name in order}


def _figures(rounds: list[dict[str, Load]]) -> list[Figure]:
    def ratio(peer: str) -> float:
        return median(done["ours"].per_second / done[peer].per_second for done in rounds)

    ours = [done["ours"] for done in rounds]
    figures = [
        Figure("forwarded requests, to a minimal aiohttp forwarder", ratio("aiohttp"), "ratio", ">= 0.90", "aiohttp"),
        Figure("forwarded requests", median(done.per_second for done in ours), "1/s"),
        Figure("forwarded request p50", median(done.p50 for done in ours), "ms"),
        Figure("forwarded request p99", median(done.p99 for done in ours), "ms"),
    ]
    if "nginx" in rounds[0]:
        figures.insert(
            1, Figure("forwarded requests, to nginx with one worker", ratio("nginx"), "ratio", None, "nginx")
        )
    return figures


@asynccontextmanager
async def _serving(module: str, *arguments: str) -> AsyncIterator[int]:
    port = _free_port()
    async with _running([sys.executable, "-m", module, str(port), *arguments], port):
        yield port


@asynccontextmanager
async def _nginx(upstream: int) -> AsyncIterator[int]:
    port = _free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "nginx.conf"
        file.write_text(_NGINX.format(folder=folder, port=port, upstream=upstream))
        async with _running(["nginx", "-e", f"{folder}/errors", "-p", name, "-c", str(file)], port):
            yield port


@asynccontextmanager
async def _running(command: list[str], port: int) -> AsyncIterator[None]:
    """The command, from the moment it listens on `port`."""
    process = await asyncio.create_subprocess_exec(*command)
    try:
        async with asyncio.timeout(20):
            await _listening(process, port)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _listening(process: asyncio.subprocess.Process, port: int) -> None:
    while process.returncode is None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        return
    raise RuntimeError(f"a server ended with status {process.returncode} instead of listening")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


if __name__ == "__main__":
    for figure in asyncio.run(measure()):
        sys.stdout.write(f"{figure.name}: {figure.value:.2f} {figure.unit} {figure.goal or ''}\n")
