"""One of Proxim8's users: makes, reads, changes and deletes documents of its own, and knows what each must look like."""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from examples.proxim8.client import Client
from examples.proxim8.documents import RESOURCES, VIDEO, Document, Owner, Resource, video_status

KEPT = 30  # documents of one kind that a user has at most: then an old one makes room


@dataclass(slots=True)
class Owned:
    """A document that nobody but its user writes; `last` is how the API last showed it, None when that is not known."""

    id: str
    owner: Owner
    last: Document | None


class Visitor:
    """Its wallets and documents belong to no other visitor, so whatever it wrote last is what it must read.

    `known` holds documents by entity that all visitors share; they are changed, but never deleted. What a visitor does
    depends on `rng` alone.
    """

    def __init__(
        self,
        client: Client,
        rng: Random,
        name: str,
        owners: Sequence[Owner],
        known: Mapping[str, Sequence[Document]],
    ) -> None:
        self.client = client
        self.rng = rng
        self.owners = owners
        self.known = known
        self.owned: dict[str, deque[Owned]] = {resource.entity: deque() for resource in RESOURCES}
        self.generated: deque[tuple[str, float]] = deque(maxlen=KEPT)
        self._name = name
        self._named = 0

    def fresh_name(self) -> str:
        self._named += 1
        return f"{self._name}-{self._named}"

    def owner(self) -> Owner:
        return self.rng.choice(self.owners)

    async def create(self, resource: Resource) -> None:
        """Make a document, and see that it is what was sent and stays so. Where there are many, one is deleted instead."""
        if len(self.owned[resource.entity]) >= KEPT:
            return await self.delete(resource)
        owner = self.owner()
        sent = resource.make(self.rng, self.fresh_name(), owner)
        answer = await self.client.call(
            resource.entity, resource.create, body=sent, wallet=owner.wallet, expect=resource.created
        )
        made: Document = answer["data"]
        self._check_holds(resource, resource.create, sent, made)
        owned = Owned(made[resource.id], owner, made)
        await self._see(resource, owned)
        self.owned[resource.entity].append(owned)
        return None

    async def read(self, resource: Resource) -> None:
        """A document of one's own is as one left it."""
        await self._with_one(resource, lambda owned: self._see(resource, owned))

    async def change(self, resource: Resource) -> None:
        """A change is in its own answer, and in the next one."""
        await self._with_one(
            resource,
            lambda owned: self._change(resource, owned, resource.update, resource.change(self.rng, self.fresh_name())),
        )

    async def set_video_status(self) -> None:
        body = video_status(self.rng, self.fresh_name())
        await self._with_one(VIDEO, lambda owned: self._change(VIDEO, owned, "PATCH /api/videos/{}/status", body))

    async def delete(self, resource: Resource) -> None:
        """What is deleted was there, and is gone."""
        mine = self.owned[resource.entity]
        if not mine:
            return
        owned = mine.popleft()
        answer = await self.client.call(resource.entity, resource.delete, owned.id)
        if owned.last is not None:
            same = answer["data"] == owned.last
            self.client.check(resource.entity, resource.delete, same, "what was deleted is not what was there")
        await self.client.call(resource.entity, resource.read, owned.id, expect=404)

    async def generate(self) -> None:
        """Have a video made; what becomes of it is for `follow` to see."""
        owner, route = self.owner(), "POST /api/videos/generate"
        body = {"nftId": self.fresh_name(), "title": "Generated"}
        answer = await self.client.call("video", route, body=body, wallet=owner.wallet)
        video = answer["data"]
        started = (answer.get("message"), video["status"], video.get("account"))
        expected = ("Video generation started", "PENDING", {"walletAddress": owner.wallet})
        self.client.check("video", route, started == expected, f"not started as it should be: {started}")
        self.generated.append((video["id"], time.monotonic()))

    async def follow(self, patience: float = 60.0) -> None:
        """A generated video is there, and is ready or has failed once `patience` seconds have passed; each in turn."""
        if not self.generated:
            return
        self.generated.rotate(-1)
        video_id, since = self.generated[-1]
        video = (await self.client.call("video", VIDEO.read, video_id))["data"]
        ended, waited = video["status"] in ("COMPLETED", "FAILED"), time.monotonic() - since
        still = f"still {video['status']} after {waited:.0f} s"
        self.client.check("video", VIDEO.read, ended or waited < patience, still)

    async def _with_one(self, resource: Resource, act: Callable[[Owned], Awaitable[None]]) -> None:
        """Act on a document of one's own, at random; where that goes wrong, nothing is claimed of it any more."""
        mine = self.owned[resource.entity]
        if not mine:
            return await self.create(resource)
        owned = self.rng.choice(mine)
        mine.remove(owned)
        await act(owned)
        mine.append(owned)
        return None

    async def _change(self, resource: Resource, owned: Owned, route: str, body: Document) -> None:
        changed: Document = (await self.client.call(resource.entity, route, owned.id, body=body))["data"]
        self._check_holds(resource, route, body, changed)
        owned.last = changed
        await self._see(resource, owned)

    async def _see(self, resource: Resource, owned: Owned) -> None:
        seen: Document = (await self.client.call(resource.entity, resource.read, owned.id))["data"]
        if owned.last is not None and seen != owned.last:
            self.client.fail(resource.entity, resource.read, f"not as it was left: {differing(owned.last, seen)}")
        owned.last = seen

    def _check_holds(self, resource: Resource, route: str, sent: Document, document: Document) -> None:
        held = {name: document.get(name) for name in sent}
        self.client.check(resource.entity, route, held == sent, f"not as it was sent: {differing(sent, held)}")


def differing(expected: Document, got: Document) -> str:
    """The fields that differ, with both values."""
    names = [name for name in expected | got if expected.get(name, ...) != got.get(name, ...)]
    return "; ".join(f"{name}: {expected.get(name, '(none)')!r} became {got.get(name, '(none)')!r}" for name in names)
