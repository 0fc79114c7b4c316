"""How fast requests are forwarded, beside a minimal aiohttp forwarder and nginx, in one run and interleaved."""

import secrets
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Final

from bench.figure import Figure
from bench.load import Load, load
from examples.processes import free_port, program, temporary_folder
from examples.proxim8.stand import CONFIG, ROOT, Stores, stores

_ROUNDS: Final = 9
_SECONDS: Final = 1
_NGINX: Final = """
worker_processes 1; daemon off; master_process off; pid {folder}/nginx-pid; error_log {folder}/nginx-errors crit;
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
    """Figures of the whole proxy forwarding a GET that no entity claims, with a small JSON as the answer, over 32
    keep-alive connections. Takes about a minute."""
    async with AsyncExitStack() as running:
        folder = running.enter_context(temporary_folder())
        databases = await running.enter_async_context(stores(folder))
        upstream = await running.enter_async_context(_serving("bench.small_upstream", folder))
        old = f"http://127.0.0.1:{upstream}"
        ports = {
            "ours": await running.enter_async_context(_proxy(folder, databases, old)),
            "aiohttp": await running.enter_async_context(_serving("bench.peer_forwarder", folder, old)),
        }
        if shutil.which("nginx"):
            ports["nginx"] = await running.enter_async_context(_nginx(folder, upstream))
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
async def _serving(module: str, folder: Path, *arguments: str) -> AsyncIterator[int]:
    port = free_port()
    command = [sys.executable, "-m", module, str(port), *arguments]
    async with program(module, command, folder=folder, cwd=ROOT, ready_url=f"http://127.0.0.1:{port}/"):
        yield port


@asynccontextmanager
async def _proxy(folder: Path, databases: Stores, old: str) -> AsyncIterator[int]:
    port = free_port()
    environment = {
        "MONGO_URL": databases.mongo_url,
        "DATABASE_URL": databases.database_url,
        "CORE_URL": old,
        "PROXIM8_URL": old,
        "JWT_SECRET": secrets.token_hex(32),
        "STRANGLER_CONFIG": str(CONFIG),
        "STRANGLER_PORT": str(port),
        "STRANGLER_ADMIN_PORT": "0",
        "STRANGLER_DRAIN": "0",
    }
    command: list[str | Path] = [Path(sys.executable).with_name("strangler"), "serve"]
    async with program("proxy", command, folder=folder, cwd=ROOT, env=environment, ready_line='"serving"'):
        yield port


@asynccontextmanager
async def _nginx(folder: Path, upstream: int) -> AsyncIterator[int]:
    port = free_port()
    file = folder / "nginx.conf"
    file.write_text(_NGINX.format(folder=folder, port=port, upstream=upstream))
    command = ["nginx", "-e", str(folder / "nginx-errors"), "-p", str(folder), "-c", str(file)]
    async with program("nginx", command, folder=folder, ready_url=f"http://127.0.0.1:{port}/"):
        yield port
