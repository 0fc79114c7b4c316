"""Where a campaign takes place: both stores, both old servers and several replicas, all real processes, any of which can be
killed, hung or cut off."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from examples.processes import NotReady, Program, free_port, program, temporary_folder
from examples.proxim8.servers import OldName, OldServer, old_server
from examples.servers import Server, fresh_database, mongod_server, postgres_server, standalone_mongod, with_database
from tests.faults.control import Control
from tests.faults.outage import Restartable
from tests.faults.relay import Relay, relayed

ROOT: Final = Path(__file__).resolve().parents[2]
CONFIG: Final = ROOT / "config" / "proxim8.yaml"

Link = Literal["mongo", "postgres", "core", "proxim8"]
LINKS: Final[tuple[Link, ...]] = ("mongo", "postgres", "core", "proxim8")
Stages = Mapping[str, str]


@dataclass(slots=True)
class Replica:
    """One proxy process, at one port for as long as the scene lasts, and its links to the servers where there are relays."""

    name: str
    server: Restartable
    port: int
    admin_port: int
    links: Mapping[Link, Relay] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}"


@dataclass(frozen=True, slots=True)
class Layout:
    """What stands in a scene. `stages` are the entities' before anybody sets a flag; `broken` names a rule of the protocol
    that the replicas disobey; `steps`: they can be told to die at one; `relays`: they reach the servers through relays;
    `standalone`: a MongoDB without transactions and change streams."""

    stages: Stages
    replicas: int = 2
    durable: bool = False
    relays: bool = False
    steps: bool = False
    standalone: bool = False
    broken: str | None = None
    limits: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Scene:
    """The running parts. `mongo_url` and `database_url` go straight to the stores, past every relay; `environment` is what
    the command line needs to reach the same."""

    layout: Layout
    folder: Path
    mongod: Restartable
    postgres: Restartable
    old: Mapping[OldName, Restartable]
    replicas: Sequence[Replica]
    control: Control
    mongo_url: str
    database_url: str
    secret: str
    environment: Mapping[str, str]
    _restarts: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def live(self) -> list[Replica]:
        """Those that clients may ask now."""
        return [replica for replica in self.replicas if replica.server.runs]

    def restart(self, replica: Replica) -> None:
        """Begin to bring it back; `all_up` waits for it."""
        task = asyncio.create_task(replica.server.start())
        self._restarts.add(task)

    async def replace(self, replica: Replica) -> None:
        """Bring one back that has died. One that died while it was being brought back is begun again by that."""
        if replica.server.runs:
            await replica.server.gone()
            self.restart(replica)

    async def some_up(self) -> list[Replica]:
        """Those that live, once there is one."""
        while not (live := self.live):
            coming = {task for task in self._restarts if not task.done()}
            if not coming:
                await self.all_up()
                raise NotReady("no replica lives, and none is being brought back")
            await asyncio.wait(coming, return_when=asyncio.FIRST_COMPLETED)
        return live

    async def all_up(self) -> None:
        """Return once every replica that was being brought back serves. Raises NotReady."""
        restarts, self._restarts = self._restarts, set()
        await asyncio.gather(*restarts)

    def relays(self, link: Link) -> list[Relay]:
        return [replica.links[link] for replica in self.replicas]

    def heal(self) -> None:
        for replica in self.replicas:
            for relay in replica.links.values():
                relay.heal()


@asynccontextmanager
async def scene(layout: Layout) -> AsyncIterator[Scene]:
    """Everything up and serving, in a folder that goes with it."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        mongo_port, postgres_port = free_port(), free_port()
        mongod = Restartable("mongod", _program_of(lambda: _mongod(folder, mongo_port, layout)))
        postgres = Restartable(
            "postgres",
            _program_of(lambda: postgres_server(folder, port=postgres_port, durable=layout.durable)),
            tries=20,  # its shared memory is there until the last of its processes has ended
        )
        for server in (mongod, postgres):
            stack.push_async_callback(server.stop)
        await asyncio.gather(mongod.start(), postgres.start())
        name = f"faults_{secrets.token_hex(4)}"
        mongo_url = with_database(f"mongodb://127.0.0.1:{mongo_port}/", name)
        database_url = await fresh_database(f"postgresql://strangler@127.0.0.1:{postgres_port}/postgres", name)
        secret = secrets.token_hex(32)
        old_ports: dict[OldName, int] = {"core": free_port(), "proxim8": free_port()}
        old = {name: _old(name, folder, mongo_url, secret, port) for name, port in old_ports.items()}
        for part in old.values():
            stack.push_async_callback(part.stop)
        await asyncio.gather(*(part.start() for part in old.values()))
        environment = {
            "MONGO_URL": mongo_url,
            "DATABASE_URL": database_url,
            "CORE_URL": f"http://127.0.0.1:{old_ports['core']}",
            "PROXIM8_URL": f"http://127.0.0.1:{old_ports['proxim8']}",
            "JWT_SECRET": secret,
            "STRANGLER_CONFIG": str(_config(folder, layout)),
            "STRANGLER_LOG": "json",
            "TMPDIR": str(folder),  # a replica that is killed leaves its engine's socket there
        }
        control = await stack.enter_async_context(Control.listening())
        ports: dict[Link, int] = {"mongo": mongo_port, "postgres": postgres_port}
        ports.update(old_ports.items())
        replicas = [
            await _replica(stack, f"replica-{number}", folder, layout, environment, ports, control)
            for number in range(layout.replicas)
        ]
        await asyncio.gather(*(replica.server.start() for replica in replicas))
        stand = Scene(
            layout, folder, mongod, postgres, old, replicas, control, mongo_url, database_url, secret, environment
        )
        try:
            yield stand
        finally:
            await stand.all_up()


def _mongod(folder: Path, port: int, layout: Layout) -> AbstractAsyncContextManager[Server]:
    if layout.standalone:
        return standalone_mongod(folder, port=port)
    return mongod_server(folder, port=port, durable=layout.durable)


async def _replica(
    stack: AsyncExitStack,
    name: str,
    folder: Path,
    layout: Layout,
    environment: Mapping[str, str],
    ports: Mapping[Link, int],
    control: Control,
) -> Replica:
    port, admin_port = free_port(), free_port()
    links: dict[Link, Relay] = {}
    own = {**environment, "STRANGLER_PORT": str(port), "STRANGLER_ADMIN_PORT": str(admin_port)}
    if layout.relays:
        for link in LINKS:
            links[link] = await stack.enter_async_context(relayed(f"{name}-{link}", ports[link]))
        for variable, link in _VARIABLES.items():
            own[variable] = _through(environment[variable], links[link])
        # The driver would follow the host's name in the replica set's configuration, past the relay.
        own["MONGO_URL"] += "?directConnection=true"
    strangler: list[str | Path] = [Path(sys.executable).with_name("strangler"), "serve"]
    if layout.steps or layout.broken:
        strangler = [sys.executable, "-m", "tests.faults.replica", "--control", control.address, "--name", name]
        strangler += ["--broken", layout.broken] if layout.broken else []

    def begin() -> AbstractAsyncContextManager[Program]:
        # A new process is a new replica: its name is its own.
        mine = {**own, "STRANGLER_REPLICA": f"{name}-{secrets.token_hex(3)}"}
        return program(name, strangler, folder=folder, cwd=ROOT, env=mine, ready_line='"serving"')

    server = Restartable(name, begin, tries=5)  # it may be told to die at a step that it reaches before it serves
    stack.push_async_callback(server.stop)
    return Replica(name, server, port, admin_port, links)


_VARIABLES: Final[Mapping[str, Link]] = {
    "MONGO_URL": "mongo",
    "DATABASE_URL": "postgres",
    "CORE_URL": "core",
    "PROXIM8_URL": "proxim8",
}


def _through(url: str, relay: Relay) -> str:
    parts = urlsplit(url)
    user = f"{parts.username}@" if parts.username else ""
    return parts._replace(netloc=f"{user}127.0.0.1:{relay.port}").geturl()


def _config(folder: Path, layout: Layout) -> Path:
    """The configuration of Proxim8, with each entity at the stage that the campaign begins with."""
    text = CONFIG.read_text()
    for entity, stage in layout.stages.items():
        text = text.replace(f"\n  {entity}:\n", f"\n  {entity}:\n    stage: {stage}\n", 1)
    if layout.limits:
        text += "\nlimits: { " + ", ".join(f"{name}: {value}" for name, value in layout.limits.items()) + " }\n"
    path = folder / "faults.yaml"
    path.write_text(text)
    return path


def _program_of(
    server: Callable[[], AbstractAsyncContextManager[Server]],
) -> Callable[[], AbstractAsyncContextManager[Program]]:
    @asynccontextmanager
    async def begin() -> AsyncIterator[Program]:
        async with server() as running:
            yield running.process

    return begin


def _old(name: OldName, folder: Path, mongo_url: str, secret: str, port: int) -> Restartable:
    def run() -> AbstractAsyncContextManager[OldServer]:
        return old_server(name, folder, mongo_url=mongo_url, secret=secret, port=port)

    @asynccontextmanager
    async def begin() -> AsyncIterator[Program]:
        async with run() as running:
            yield running.process

    return Restartable(name, begin)
