"""The two old Proxim8 servers on a real MongoDB: every endpoint, what it answers and stores, what it refuses."""

import asyncio
import contextlib
import hashlib
import signal
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from bson import ObjectId
from pymongo import MongoClient
from pymongo.database import Database
from yarl import URL

from examples.processes import NotReady, Program, free_port
from examples.proxim8.servers import OldName, old_server

SECRET = "the two old servers share this secret, which is long enough for HS512 too"
MISSING_ID = "0" * 24
DEADLINE = 15.0
A_SECOND = timedelta(seconds=1)

Store = Database[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Any
    headers: Any

    @property
    def data(self) -> Any:
        assert self.body["success"] is True, self.body
        return self.body["data"]


@dataclass(frozen=True, slots=True)
class Server:
    """One old server, and a client of it."""

    url: URL
    session: aiohttp.ClientSession
    running: Program

    async def call(self, method: str, path: str, body: Any = None, *, wallet: str | None = None, **more: Any) -> Answer:
        headers = {"Authorization": bearer(wallet)} if wallet is not None else {}
        if body is not None:
            more["json"] = body
        target = URL(f"{self.url}{path}", encoded=True)
        async with self.session.request(method, target, headers=headers, **more) as response:
            assert response.content_type == "application/json", await response.text()
            return Answer(response.status, await response.json(), response.headers)

    async def ok(
        self, method: str, path: str, body: Any = None, *, wallet: str | None = None, status: int = 200
    ) -> Any:
        answer = await self.call(method, path, body, wallet=wallet)
        assert answer.status == status, answer.body
        return answer.data


def bearer(wallet: Any, *, secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    return f"Bearer {jwt.encode({'wallet': {'address': wallet}, **claims}, secret, algorithm=algorithm)}"


def fresh(prefix: str = "w") -> str:
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


@contextlib.asynccontextmanager
async def started(name: OldName, mongo_url: str, folder: Path, **settings: str) -> AsyncIterator[Server]:
    settings = {"JOB_DELAY_MS": "5", **settings}  # no test waits for the time that a job takes
    async with (
        old_server(name, folder, mongo_url=mongo_url, secret=SECRET, settings=settings) as old,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE)) as session,
    ):
        yield Server(URL(old.url), session, old.process)


@pytest.fixture(scope="module")
def store(module_mongo_database: str) -> Iterator[Store]:
    with MongoClient[dict[str, Any]](module_mongo_database, tz_aware=True) as client:
        yield client.get_default_database()


@pytest.fixture(scope="module")
async def core(module_mongo_database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with started("core", module_mongo_database, tmp_path_factory.mktemp("core")) as server:
        yield server


@pytest.fixture(scope="module")
async def proxim8(module_mongo_database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with started("proxim8", module_mongo_database, tmp_path_factory.mktemp("proxim8")) as server:
        yield server


@pytest.fixture(params=["core", "proxim8"])
def either(request: pytest.FixtureRequest, core: Server, proxim8: Server) -> Server:
    return core if request.param == "core" else proxim8


def later(after: str, before: str) -> bool:
    return datetime.fromisoformat(after) >= datetime.fromisoformat(before)


async def account_of(core: Server, wallet: str) -> str:
    account_id: str = (await core.ok("GET", "/api/accounts/me", wallet=wallet))["_id"]
    return account_id


async def ended(proxim8: Server, job_id: str) -> dict[str, Any]:
    """The job, once it has ended."""
    limit = time.monotonic() + DEADLINE
    while time.monotonic() < limit:
        jobs = (await proxim8.ok("GET", "/api/jobs"))["jobs"]
        if job := next((job for job in jobs if job["jobId"] == job_id and "endedAt" in job), None):
            assert isinstance(job, dict)
            return job
        await asyncio.sleep(0.01)
    raise AssertionError(f"the job has not ended within {DEADLINE:g} s")


# Accounts


async def test_health(either: Server) -> None:
    assert await either.ok("GET", "/health") == {"status": "ok"}


async def test_account_from_creation_to_deletion(core: Server, store: Store) -> None:
    wallet, other = fresh(), fresh()
    created = await core.ok("POST", "/api/accounts", {"walletAddress": wallet, "isAdmin": True}, status=201)
    assert list(created) == ["_id", "walletAddress", "createdAt", "updatedAt"]
    path = f"/api/accounts/{created['_id']}"
    assert await core.ok("GET", path) == created
    assert await core.ok("GET", f"/api/accounts/wallet/{wallet}") == created

    stored = store.accounts.find_one({"walletAddress": wallet})
    assert stored is not None
    assert stored["_id"] == ObjectId(created["_id"])
    assert stored["createdAt"] == datetime.fromisoformat(created["createdAt"])

    changed = await core.ok("PATCH", path, {"walletAddress": other})
    assert changed["walletAddress"] == other
    assert changed["createdAt"] == created["createdAt"]
    assert later(changed["updatedAt"], created["updatedAt"])

    assert await core.ok("DELETE", path) == changed
    for method, body in [("GET", None), ("PATCH", {"walletAddress": wallet}), ("DELETE", None)]:
        answer = await core.call(method, path, body)
        assert (answer.status, answer.body) == (404, {"success": False, "error": "Account not found"})
    assert (await core.call("GET", f"/api/accounts/wallet/{other}")).status == 404


async def test_accounts_come_in_pages(core: Server, store: Store) -> None:
    made = [(await core.ok("POST", "/api/accounts", {"walletAddress": fresh()}, status=201))["_id"] for _ in range(5)]
    pages = [await core.call("GET", f"/api/accounts?limit=2&page={page}") for page in (1, 2, 3)]
    assert [account["_id"] for page in pages for account in page.data][:5] == made[::-1]
    total = store.accounts.count_documents({})
    assert [page.body["pagination"] for page in pages] == [
        {"page": number, "limit": 2, "total": total} for number in (1, 2, 3)
    ]
    assert (await core.call("GET", "/api/accounts")).body["pagination"]["limit"] == 20
    assert await core.ok("GET", "/api/accounts?page=9999") == []


async def test_me_is_found_or_created_and_not_touched(core: Server, proxim8: Server, store: Store) -> None:
    wallet = fresh()
    first, *others = await asyncio.gather(
        *(core.ok("GET", "/api/accounts/me", wallet=wallet) for _ in range(15)),
        *(proxim8.ok("GET", "/api/videos", wallet=wallet) for _ in range(15)),
    )
    assert first["profiles"] == []
    assert all(me in (first, []) for me in others)
    assert store.accounts.count_documents({"walletAddress": wallet}) == 1
    assert (await core.ok("GET", "/api/accounts/me", wallet=wallet)) == first


async def test_a_wallet_that_proxim8_sees_first_is_the_same_account(
    core: Server, proxim8: Server, store: Store
) -> None:
    wallet = fresh()
    assert await proxim8.ok("GET", "/api/videos", wallet=wallet) == []
    stored = store.accounts.find_one({"walletAddress": wallet})
    assert stored is not None
    assert list(stored) == ["_id", "walletAddress", "createdAt", "updatedAt"]
    assert await account_of(core, wallet) == str(stored["_id"])


async def test_an_account_in_use_stays(core: Server, proxim8: Server) -> None:
    wallet = fresh()
    path = f"/api/accounts/{await account_of(core, wallet)}"
    video = await proxim8.ok("POST", "/api/videos", {"nftId": "n", "jobId": fresh()}, wallet=wallet, status=201)
    refused = await core.call("DELETE", path)
    assert refused.status == 409
    assert refused.body == {
        "success": False,
        "error": "Account is in use",
        "field": "id",
        "reason": "still has videos",
    }
    await proxim8.ok("DELETE", f"/api/videos/{video['id']}")
    assert (await core.ok("DELETE", path))["walletAddress"] == wallet


# Profiles


async def test_profile_from_creation_to_deletion(core: Server, store: Store) -> None:
    wallet, name = fresh(), fresh("p")
    account = await account_of(core, wallet)
    given = {"username": name, "bio": "", "accountId": MISSING_ID}
    created = await core.ok("POST", "/api/profiles", given, wallet=wallet, status=201)
    assert created == {
        "_id": created["_id"],
        "accountId": account,
        "username": name,
        "bio": "",
        "createdAt": created["createdAt"],
        "updatedAt": created["createdAt"],
    }
    stored = store.profiles.find_one({"username": name})
    assert stored is not None
    assert stored["accountId"] == ObjectId(account)

    path = f"/api/profiles/{created['_id']}"
    changed = await core.ok("PATCH", path, {"avatar": "a.png", "bio": None, "accountId": MISSING_ID})
    assert "bio" not in changed
    assert (changed["avatar"], changed["accountId"], changed["username"]) == ("a.png", account, name)
    assert await core.ok("GET", path) == changed
    assert (await core.ok("GET", "/api/accounts/me", wallet=wallet))["profiles"] == [changed]
    assert await core.ok("DELETE", path) == changed
    assert [(await core.call(method, path)).status for method in ("GET", "PATCH", "DELETE")] == [404, 404, 404]


async def test_profiles_are_listed_newest_first(core: Server) -> None:
    wallet = fresh()
    made = [
        (await core.ok("POST", "/api/profiles", {"username": fresh("p")}, wallet=wallet, status=201))["_id"]
        for _ in range(3)
    ]
    own = f"/api/profiles?accountId={await account_of(core, wallet)}"
    assert [profile["_id"] for profile in await core.ok("GET", own)] == made[::-1]
    assert [profile["_id"] for profile in await core.ok("GET", f"{own}&limit=2")] == made[:0:-1]
    assert [profile["_id"] for profile in await core.ok("GET", "/api/profiles?limit=3")] == made[::-1]
    assert await core.ok("GET", f"/api/profiles?accountId={MISSING_ID}") == []


# Videos and jobs


async def test_video_from_creation_to_deletion(core: Server, proxim8: Server, store: Store) -> None:
    wallet, job = fresh(), fresh("job")
    created = await proxim8.ok(
        "POST", "/api/videos", {"nftId": "n1", "jobId": job, "title": "A"}, wallet=wallet, status=201
    )
    assert created == {
        "id": created["id"],
        "accountId": await account_of(core, wallet),
        "nftId": "n1",
        "jobId": job,
        "status": "PENDING",
        "title": "A",
        "isPublic": False,
        "createdAt": created["createdAt"],
        "updatedAt": created["createdAt"],
    }
    stored = store.videos.find_one({"jobId": job})
    assert stored is not None
    assert stored["__v"] == 0
    assert stored["accountId"] == ObjectId(created["accountId"])
    assert not {"description", "videoUrl", "thumbnailUrl"} & stored.keys()

    path = f"/api/videos/{created['id']}"
    assert await proxim8.ok("GET", path) == created
    changed = await proxim8.ok("PATCH", path, {"title": None, "description": "d", "isPublic": True, "jobId": "x"})
    assert "title" not in changed
    assert (changed["description"], changed["isPublic"], changed["jobId"]) == ("d", True, job)
    assert later(changed["updatedAt"], created["updatedAt"])

    urls = {"videoUrl": "https://v.example/1", "thumbnailUrl": "https://t.example/1"}
    made = await proxim8.ok("PATCH", f"{path}/status", {"status": "COMPLETED", **urls})
    assert made == {**changed, "status": "COMPLETED", **urls, "updatedAt": made["updatedAt"]}
    again = await proxim8.ok("PATCH", f"{path}/status", {"status": "FAILED"})
    assert (again["status"], again["videoUrl"]) == ("FAILED", urls["videoUrl"])

    assert await proxim8.ok("DELETE", path) == again
    assert [(await proxim8.call(method, path)).status for method in ("GET", "PATCH", "DELETE")] == [404, 404, 404]
    assert (await proxim8.call("PATCH", f"{path}/status", {"status": "FAILED"})).status == 404


async def test_a_video_made_elsewhere_may_come_complete(proxim8: Server) -> None:
    given = {"nftId": "n", "jobId": fresh(), "status": "COMPLETED", "videoUrl": "https://v.example", "isPublic": True}
    created = await proxim8.ok("POST", "/api/videos", given, wallet=fresh(), status=201)
    assert {name: created[name] for name in given} == given


async def test_own_videos_newest_first_with_the_wallet(proxim8: Server) -> None:
    wallet = fresh()
    made = []
    for status in ("COMPLETED", "PENDING", "COMPLETED"):
        body = {"nftId": "n", "jobId": fresh(), "status": status}
        made.append(await proxim8.ok("POST", "/api/videos", body, wallet=wallet, status=201))
    expected = [{**video, "account": {"walletAddress": wallet}} for video in made[::-1]]
    assert await proxim8.ok("GET", "/api/videos", wallet=wallet) == expected
    assert await proxim8.ok("GET", "/api/videos?limit=1", wallet=wallet) == expected[:1]
    assert await proxim8.ok("GET", "/api/videos?status=COMPLETED", wallet=wallet) == [expected[0], expected[2]]
    assert await proxim8.ok("GET", "/api/videos", wallet=fresh()) == []


async def test_public_videos_are_plain_and_newest_first(proxim8: Server) -> None:
    made = []
    for public in (True, False, True):
        body = {"nftId": "n", "jobId": fresh(), "isPublic": public}
        made.append(await proxim8.ok("POST", "/api/videos", body, wallet=fresh(), status=201))
    assert await proxim8.ok("GET", "/api/videos/public?limit=2") == [made[2], made[0]]


async def test_generate_queues_a_job_that_ends_in_a_notification(proxim8: Server) -> None:
    wallet = fresh()
    answer = await proxim8.call("POST", "/api/videos/generate", {"nftId": "n7", "title": "T"}, wallet=wallet)
    assert answer.status == 200
    assert answer.body["message"] == "Video generation started"
    video = answer.data
    assert (video["status"], video["title"], video["account"]) == ("PENDING", "T", {"walletAddress": wallet})

    job = await ended(proxim8, video["jobId"])
    assert (job["videoId"], job["nftId"]) == (video["id"], "n7")
    seen = await proxim8.ok("GET", f"/api/videos/{video['id']}")
    (notification,) = await proxim8.ok("GET", "/api/notifications", wallet=wallet)
    assert notification["data"] == {"videoId": video["id"], "jobId": video["jobId"], "nftId": "n7"}
    assert (job["state"], seen["status"], notification["type"]) in [
        ("done", "COMPLETED", "VIDEO_COMPLETED"),
        ("failed", "FAILED", "VIDEO_FAILED"),
    ]
    assert ("videoUrl" in seen) == ("thumbnailUrl" in seen) == (job["state"] == "done")


async def test_every_tenth_job_fails(proxim8: Server) -> None:
    before = await proxim8.ok("GET", "/api/jobs")
    wallet = fresh()
    videos = [await proxim8.ok("POST", "/api/videos/generate", {"nftId": "n"}, wallet=wallet) for _ in range(10)]
    states = [(await ended(proxim8, video["jobId"]))["state"] for video in videos]
    assert sorted(states) == ["done"] * 9 + ["failed"]
    after = await proxim8.ok("GET", "/api/jobs")
    assert (after["done"] - before["done"], after["failed"] - before["failed"]) == (9, 1)
    assert (after["waiting"], after["running"]) == (0, 0)


async def test_a_job_can_be_queued_alone_and_for_a_video_that_is_gone(proxim8: Server) -> None:
    job = {"jobId": fresh("job"), "videoId": MISSING_ID, "nftId": "n"}
    answer = await proxim8.call("POST", "/api/jobs", job)
    assert (answer.status, answer.body["message"]) == (202, "Job queued")
    assert {name: answer.data[name] for name in job} == job
    assert (await ended(proxim8, job["jobId"]))["state"] == "dropped"


async def test_a_full_queue_refuses_before_a_video_is_made(
    module_mongo_database: str, tmp_path: Path, store: Store
) -> None:
    limits = {"JOB_CAPACITY": "1", "JOB_CONCURRENCY": "1", "JOB_DELAY_MS": "600000"}
    wallet = fresh()
    async with started("proxim8", module_mongo_database, tmp_path, **limits) as server:
        for nft in ("runs", "waits"):
            await server.ok("POST", "/api/videos/generate", {"nftId": nft}, wallet=wallet)
        for path, body in [
            ("/api/videos/generate", {"nftId": "refused"}),
            ("/api/jobs", {"jobId": "j", "videoId": MISSING_ID, "nftId": "refused"}),
        ]:
            answer = await server.call("POST", path, body, wallet=wallet)
            assert (answer.status, answer.body) == (503, {"success": False, "error": "Video queue is full"})
            assert answer.headers["Retry-After"] == "1"
        jobs = await server.ok("GET", "/api/jobs")
        assert (jobs["waiting"], jobs["running"]) == (1, 1)
        assert [(job["nftId"], job["state"]) for job in jobs["jobs"]] == [("waits", "waiting"), ("runs", "running")]
        assert store.videos.count_documents({"nftId": "refused"}) == 0

        server.running.signal(signal.SIGTERM)
        assert await server.running.exited() == 0
    ended_by_stop = store.videos.find_one({"nftId": "runs"})
    assert ended_by_stop is not None
    assert ended_by_stop["status"] == "COMPLETED"
    assert '"event":"jobs lost","count":1' in server.running.log.read_text()


async def test_jobs_go_through_the_public_url_and_try_again(module_mongo_database: str, tmp_path: Path) -> None:
    port, refusals = free_port(), [503, 502]
    seen: list[str] = []
    async with (
        started("proxim8", module_mongo_database, tmp_path, PUBLIC_URL=f"http://127.0.0.1:{port}") as server,
        aiohttp.ClientSession() as session,
    ):

        async def front(request: web.Request) -> web.Response:
            seen.append(f"{request.method} {request.path.split('/')[2]}")
            if refusals:
                return web.json_response({"success": False}, status=refusals.pop())
            body = await request.json()
            async with session.request(request.method, server.url.with_path(request.path), json=body) as answer:
                return web.json_response(await answer.json(), status=answer.status)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", front)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            video = await server.ok("POST", "/api/videos/generate", {"nftId": "n"}, wallet=fresh())
            assert (await ended(server, video["jobId"]))["state"] == "done"
        finally:
            await runner.cleanup()
        assert seen == ["PATCH videos"] * 4 + ["POST notifications"]
        assert (await server.ok("GET", "/api/jobs"))["retries"] == 2


# Notifications


async def test_notification_from_creation_to_deletion(core: Server, proxim8: Server, store: Store) -> None:
    wallet = fresh()
    account = await account_of(core, wallet)
    data = {"$ne": 1, "a.b": {"deep": [1, 2.5, None, {}]}, "empty": {}, "none": None}
    given = {"accountId": account, "type": "SYSTEM_ANNOUNCEMENT", "title": "T", "message": "M", "data": data}
    created = await proxim8.ok("POST", "/api/notifications", given, status=201)
    assert created == {
        "id": created["id"],
        **given,
        "isRead": False,
        "createdAt": created["createdAt"],
        "updatedAt": created["createdAt"],
    }
    path = f"/api/notifications/{created['id']}"
    assert await proxim8.ok("GET", path) == created
    read = await proxim8.ok("PATCH", f"{path}/read")
    assert read == {**created, "isRead": True, "updatedAt": read["updatedAt"]}
    assert await proxim8.ok("DELETE", path) == read
    assert [(await proxim8.call(method, path)).status for method in ("GET", "DELETE")] == [404, 404]
    assert (await proxim8.call("PATCH", f"{path}/read")).status == 404

    plain = await proxim8.ok("POST", "/api/notifications", {**given, "data": None}, status=201)
    stored = store.notifications.find_one({"_id": ObjectId(plain["id"])})
    assert stored is not None
    assert set(stored) == {*given.keys() - {"data"}, "_id", "isRead", "createdAt", "updatedAt", "__v"}


async def test_notifications_are_counted_and_read_together(core: Server, proxim8: Server) -> None:
    wallet = fresh()
    body = {"accountId": await account_of(core, wallet), "type": "NFT_VERIFIED", "title": "T", "message": "M"}
    made = [(await proxim8.ok("POST", "/api/notifications", body, status=201))["id"] for _ in range(3)]
    await proxim8.ok("PATCH", f"/api/notifications/{made[1]}/read")

    async def seen(query: str) -> tuple[list[str], int]:
        answer = await proxim8.call("GET", f"/api/notifications{query}", wallet=wallet)
        return [notification["id"] for notification in answer.data], answer.body["unreadCount"]

    assert await seen("") == (made[::-1], 2)
    assert await seen("?limit=1") == (made[2:], 2)
    assert await seen("?unread=true") == ([made[2], made[0]], 2)
    assert await seen("?unread=false") == (made[::-1], 2)
    assert await proxim8.ok("POST", "/api/notifications/read-all", wallet=wallet) == {"modified": 2}
    assert await seen("?unread=true") == ([], 0)
    assert await proxim8.ok("POST", "/api/notifications/read-all", wallet=wallet) == {"modified": 0}


async def test_a_notification_needs_an_account(proxim8: Server) -> None:
    body = {"accountId": MISSING_ID, "type": "NFT_VERIFIED", "title": "T", "message": "M"}
    answer = await proxim8.call("POST", "/api/notifications", body)
    assert answer.status == 400
    assert (answer.body["field"], answer.body["reason"]) == ("accountId", "must be an existing account")


# NFT ownership


async def test_nft_from_verification_to_deletion(proxim8: Server, store: Store) -> None:
    wallet, token = fresh(), fresh("nft")
    given = {"nftId": token, "walletAddress": wallet, "contractAddress": "0xC", "tokenId": "7"}
    answer = await proxim8.call("POST", "/api/nfts/verify", given)
    assert (answer.status, answer.body["message"]) == (200, "NFT verified")
    first = answer.data
    assert set(first) == {*given, "id", "verified", "lastVerified", "createdAt", "updatedAt"}
    assert {name: first[name] for name in given} == given
    assert first["verified"] is True
    assert abs(datetime.fromisoformat(first["lastVerified"]) - datetime.fromisoformat(first["createdAt"])) < A_SECOND
    stored = store.nft_ownership.find_one({"nftId": token})
    assert stored is not None
    assert stored["__v"] == 0

    other = fresh()
    second = await proxim8.ok("POST", "/api/nfts/verify", {**given, "walletAddress": other})
    assert (second["id"], second["createdAt"], second["walletAddress"]) == (first["id"], first["createdAt"], other)
    path = f"/api/nfts/{first['id']}"
    assert await proxim8.ok("GET", path) == second
    assert await proxim8.ok("GET", f"/api/nfts/token/{token}") == second

    moment = "2026-01-02T03:04:05.678Z"
    changed = await proxim8.ok("PATCH", path, {"verified": False, "tokenId": "8", "lastVerified": moment, "nftId": "x"})
    assert changed == {
        **second,
        "verified": False,
        "tokenId": "8",
        "lastVerified": moment,
        "updatedAt": changed["updatedAt"],
    }
    assert "lastVerified" not in await proxim8.ok("PATCH", path, {"lastVerified": None})
    assert (await proxim8.ok("DELETE", path))["nftId"] == token
    assert [(await proxim8.call(method, path)).status for method in ("GET", "PATCH", "DELETE")] == [404, 404, 404]
    assert (await proxim8.call("GET", f"/api/nfts/token/{token}")).status == 404


async def test_nfts_of_a_wallet_newest_first(proxim8: Server) -> None:
    wallet = fresh()
    made = []
    for _ in range(3):
        given = {"nftId": fresh("nft"), "walletAddress": wallet, "contractAddress": "0xC", "tokenId": "7"}
        made.append(await proxim8.ok("POST", "/api/nfts/verify", given))
    assert await proxim8.ok("GET", f"/api/nfts?walletAddress={wallet}") == made[::-1]
    assert await proxim8.ok("GET", f"/api/nfts?walletAddress={wallet}&limit=2") == made[:0:-1]
    assert await proxim8.ok("GET", "/api/nfts?limit=3") == made[::-1]


# What is refused

OPERATOR = {"$ne": None}
VIDEO = {"nftId": "n", "jobId": "j"}
NOTIFICATION = {"accountId": MISSING_ID, "type": "NFT_VERIFIED", "title": "T", "message": "M"}
NFT = {"nftId": "n", "walletAddress": "w", "contractAddress": "c", "tokenId": "t"}
HEX = "must be 24 hexadecimal digits"
STRING = "must be a string"
LIMIT = "must be a whole number from 1 to 100"

BAD_INPUT: list[tuple[str, str, str, Any, str, str]] = [
    *(("core", method, f"/api/{name}/nope", {"walletAddress": "w"}, "id", HEX)
      for name in ("accounts", "profiles") for method in ("GET", "PATCH", "DELETE")),
    *(("proxim8", method, f"/api/{name}/nope", {}, "id", HEX)
      for name in ("videos", "nfts") for method in ("GET", "PATCH", "DELETE")),
    *(("proxim8", method, "/api/notifications/nope", None, "id", HEX) for method in ("GET", "DELETE")),
    ("proxim8", "PATCH", "/api/videos/nope/status", {"status": "FAILED"}, "id", HEX),
    ("proxim8", "PATCH", "/api/notifications/nope/read", None, "id", HEX),
    ("core", "GET", "/api/accounts/%7B%22$ne%22:null%7D", None, "id", HEX),
    ("core", "GET", "/api/profiles?accountId=x", None, "accountId", HEX),
    ("core", "GET", "/api/profiles?accountId=1&accountId=2", None, "accountId", STRING),
    ("core", "GET", "/api/accounts?limit=0", None, "limit", LIMIT),
    ("core", "GET", "/api/accounts?limit=101", None, "limit", LIMIT),
    ("core", "GET", "/api/accounts?limit=ten", None, "limit", LIMIT),
    ("core", "GET", "/api/accounts?limit=1&limit=2", None, "limit", LIMIT),
    ("core", "GET", "/api/accounts?page=-1", None, "page", "must be a whole number from 1 to 100000"),
    ("proxim8", "GET", "/api/videos/public?limit=1.5", None, "limit", LIMIT),
    ("proxim8", "GET", "/api/videos?status=DONE", None, "status", "must be one of PENDING, PROCESSING"),
    ("proxim8", "GET", "/api/notifications?unread=maybe", None, "unread", "must be one of true, false"),
    ("core", "POST", "/api/accounts", {}, "walletAddress", "is required"),
    ("core", "POST", "/api/accounts", None, "walletAddress", "is required"),
    ("core", "POST", "/api/accounts", [], "body", "must be an object"),
    ("core", "POST", "/api/accounts", {"walletAddress": "  "}, "walletAddress", "must not be empty"),
    ("core", "POST", "/api/accounts", {"walletAddress": 7}, "walletAddress", STRING),
    ("core", "POST", "/api/accounts", {"walletAddress": OPERATOR}, "walletAddress", STRING),
    ("core", "PATCH", f"/api/accounts/{MISSING_ID}", {"walletAddress": OPERATOR}, "walletAddress", STRING),
    ("core", "PATCH", f"/api/accounts/{MISSING_ID}", {}, "walletAddress", "is required"),
    ("core", "POST", "/api/profiles", {"username": OPERATOR}, "username", STRING),
    ("core", "POST", "/api/profiles", {"username": "u", "bio": OPERATOR}, "bio", STRING),
    ("core", "PATCH", f"/api/profiles/{MISSING_ID}", {"username": None}, "username", STRING),
    ("core", "PATCH", f"/api/profiles/{MISSING_ID}", {"avatar": []}, "avatar", STRING),
    ("proxim8", "POST", "/api/videos/generate", {}, "nftId", "is required"),
    ("proxim8", "POST", "/api/videos/generate", {"nftId": OPERATOR}, "nftId", STRING),
    ("proxim8", "POST", "/api/videos", {"nftId": "n"}, "jobId", "is required"),
    ("proxim8", "POST", "/api/videos", {**VIDEO, "status": "DONE"}, "status", "must be one of PENDING"),
    ("proxim8", "POST", "/api/videos", {**VIDEO, "isPublic": "true"}, "isPublic", "must be true or false"),
    ("proxim8", "POST", "/api/videos", {**VIDEO, "title": OPERATOR}, "title", STRING),
    ("proxim8", "PATCH", f"/api/videos/{MISSING_ID}", {"isPublic": 1}, "isPublic", "must be true or false"),
    ("proxim8", "PATCH", f"/api/videos/{MISSING_ID}", {"isPublic": None}, "isPublic", "must be true or false"),
    ("proxim8", "PATCH", f"/api/videos/{MISSING_ID}/status", {}, "status", "is required"),
    ("proxim8", "PATCH", f"/api/videos/{MISSING_ID}/status", {"status": OPERATOR}, "status", STRING),
    ("proxim8", "PATCH", f"/api/videos/{MISSING_ID}/status", {"status": "pending"}, "status", "must be one of"),
    ("proxim8", "POST", "/api/jobs", {"jobId": "j", "videoId": "x", "nftId": "n"}, "videoId", HEX),
    ("proxim8", "POST", "/api/notifications", {**NOTIFICATION, "accountId": "x"}, "accountId", HEX),
    ("proxim8", "POST", "/api/notifications", {**NOTIFICATION, "accountId": OPERATOR}, "accountId", STRING),
    ("proxim8", "POST", "/api/notifications", {**NOTIFICATION, "type": "OTHER"}, "type", "must be one of VIDEO_"),
    ("proxim8", "POST", "/api/notifications", {**NOTIFICATION, "data": "text"}, "data", "must be an object"),
    ("proxim8", "POST", "/api/notifications", {**NOTIFICATION, "data": [1]}, "data", "must be an object"),
    ("proxim8", "POST", "/api/nfts/verify", {**NFT, "nftId": OPERATOR}, "nftId", STRING),
    ("proxim8", "POST", "/api/nfts/verify", {**NFT, "tokenId": 7}, "tokenId", STRING),
    ("proxim8", "PATCH", f"/api/nfts/{MISSING_ID}", {"verified": "yes"}, "verified", "must be true or false"),
    ("proxim8", "PATCH", f"/api/nfts/{MISSING_ID}", {"lastVerified": "soon"}, "lastVerified", "must be an ISO 8601"),
    ("proxim8", "PATCH", f"/api/nfts/{MISSING_ID}", {"lastVerified": "2026-13-01T00:00:00Z"}, "lastVerified",
     "must be an ISO 8601"),
]  # fmt: skip


@pytest.mark.parametrize(("server", "method", "path", "body", "field", "reason"), BAD_INPUT)
async def test_bad_input_is_named(
    request: pytest.FixtureRequest, server: str, method: str, path: str, body: Any, field: str, reason: str
) -> None:
    target: Server = request.getfixturevalue(server)
    answer = await target.call(method, path, body, wallet="w-bad-input")
    assert answer.status == 400, answer.body
    assert answer.body["success"] is False
    assert answer.body["error"] == f"Invalid {field}"
    assert answer.body["field"] == field
    assert answer.body["reason"].startswith(reason)


async def test_operators_in_a_query_string_are_only_odd_names(proxim8: Server) -> None:
    assert await proxim8.ok("GET", "/api/nfts?walletAddress[$ne]=x&limit=1&limit[$gt]=5") == (
        await proxim8.ok("GET", "/api/nfts?limit=1")
    )


async def test_duplicates_conflict(core: Server, proxim8: Server) -> None:
    wallet, other, name, job = fresh(), fresh(), fresh("p"), fresh("job")
    await core.ok("POST", "/api/accounts", {"walletAddress": wallet}, status=201)
    account = await core.ok("POST", "/api/accounts", {"walletAddress": other}, status=201)
    await core.ok("POST", "/api/profiles", {"username": name}, wallet=wallet, status=201)
    profile = await core.ok("POST", "/api/profiles", {"username": fresh("p")}, wallet=wallet, status=201)
    await proxim8.ok("POST", "/api/videos", {"nftId": "n", "jobId": job}, wallet=wallet, status=201)
    for server, method, path, body, field in [
        (core, "POST", "/api/accounts", {"walletAddress": wallet}, "walletAddress"),
        (core, "PATCH", f"/api/accounts/{account['_id']}", {"walletAddress": wallet}, "walletAddress"),
        (core, "POST", "/api/profiles", {"username": name}, "username"),
        (core, "PATCH", f"/api/profiles/{profile['_id']}", {"username": name}, "username"),
        (proxim8, "POST", "/api/videos", {"nftId": "n", "jobId": job}, "jobId"),
    ]:
        answer = await server.call(method, path, body, wallet=wallet)
        assert answer.status == 409
        assert answer.body == {
            "success": False,
            "error": f"{field} already exists",
            "field": field,
            "reason": "must be unique",
        }


def authorizations() -> dict[str, str | None]:
    # A token needs the key that it is checked with, except where the key is what is wrong about it.
    return {
        "none": None,
        "not bearer": bearer("w").replace("Bearer", "Basic"),
        "no token": "Bearer",
        "no JWT": "Bearer abc.def.ghi",
        "another secret": bearer("w", secret=SECRET[::-1]),
        "another algorithm": bearer("w", algorithm="HS512"),
        "unsigned": f"Bearer {jwt.encode({'wallet': {'address': 'w'}}, None, algorithm='none')}",
        "expired": bearer("w", exp=1_000_000_000),
        "no wallet": f"Bearer {jwt.encode({'sub': 'w'}, SECRET, algorithm='HS256')}",
        "empty wallet": bearer(" "),
        "operator": bearer(OPERATOR),
    }


@pytest.mark.parametrize("flaw", authorizations())
async def test_a_wallet_is_required(core: Server, proxim8: Server, flaw: str) -> None:
    authorization = authorizations()[flaw]
    headers = {} if authorization is None else {"Authorization": authorization}
    for server, method, path in [
        (core, "GET", "/api/accounts/me"),
        (core, "POST", "/api/profiles"),
        (proxim8, "POST", "/api/videos/generate"),
        (proxim8, "POST", "/api/videos"),
        (proxim8, "GET", "/api/videos"),
        (proxim8, "GET", "/api/notifications"),
        (proxim8, "POST", "/api/notifications/read-all"),
    ]:
        async with server.session.request(method, server.url.with_path(path), headers=headers) as response:
            assert response.status == 401
            assert await response.json() == {"success": False, "error": "Wallet address required"}


@pytest.mark.parametrize(
    ("data", "status", "error"),
    [
        (b'{"walletAddress": "w"', 400, "Malformed JSON"),
        (b"null", 400, "Malformed JSON"),
        (b'"text"', 400, "Malformed JSON"),
        (b'{"walletAddress": "' + b"x" * (1 << 20) + b'"}', 413, "Body too large"),
    ],
    ids=["cut", "null", "text", "large"],
)
async def test_bodies_that_are_no_json_object(either: Server, data: bytes, status: int, error: str) -> None:
    headers = {"Content-Type": "application/json"}
    async with either.session.post(either.url.with_path("/api/accounts"), data=data, headers=headers) as response:
        assert (response.status, await response.json()) == (status, {"success": False, "error": error})


async def test_unknown_endpoints_and_broken_paths(either: Server) -> None:
    answer = await either.call("GET", "/api/nothing")
    assert (answer.status, answer.body) == (404, {"success": False, "error": "Endpoint not found"})
    broken = "/api/accounts/%E0" if (await either.call("GET", "/api/accounts/1")).status == 400 else "/api/videos/%E0"
    answer = await either.call("GET", broken)
    assert (answer.status, answer.body) == (400, {"success": False, "error": "Bad request"})


# What no entity claims


async def test_stats_count(proxim8: Server, store: Store) -> None:
    stats = await proxim8.ok("GET", "/api/stats")
    assert sum(stats["videos"].values()) == store.videos.count_documents({})
    assert stats["notifications"] == store.notifications.count_documents({})
    assert stats["nfts"] == store.nft_ownership.count_documents({})


async def test_an_upload_is_streamed(proxim8: Server) -> None:
    chunk, count = bytes(range(256)) * 256, 80

    async def body() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield chunk

    answer = await proxim8.call("POST", "/api/uploads", data=body())
    assert answer.status == 201
    assert answer.data == {"bytes": count * len(chunk), "sha256": hashlib.sha256(chunk * count).hexdigest()}
    # Whatever it calls itself, it is bytes.
    assert (await proxim8.ok("POST", "/api/uploads", {"a": 1}, status=201))["bytes"] == len('{"a": 1}')


async def test_a_file_comes_whole_and_in_ranges(proxim8: Server) -> None:
    whole = bytes(n % 251 for n in range(1 << 20))
    url = proxim8.url.with_path("/api/uploads/sample.bin")
    async with proxim8.session.get(url) as response:
        assert (response.status, await response.read()) == (200, whole)
        etag = response.headers["ETag"]
    async with proxim8.session.get(url, headers={"Range": "bytes=249-252"}) as response:
        assert (response.status, await response.read()) == (206, whole[249:253])
        assert response.headers["Content-Range"] == f"bytes 249-252/{1 << 20}"
    async with proxim8.session.head(url) as response:
        assert response.headers["Content-Length"] == str(1 << 20)
    async with proxim8.session.get(url, headers={"If-None-Match": etag}) as response:
        assert response.status == 304
    async with proxim8.session.get(url, headers={"Range": "bytes=9999999-"}) as response:
        assert response.status == 416
    for name in ("nothing", "..%2F..%2Fpackage.json", ".hidden"):
        assert (await proxim8.call("GET", f"/api/uploads/{name}")).status == 404


async def test_the_websocket_echoes(proxim8: Server) -> None:
    async with proxim8.session.ws_connect(proxim8.url.with_path("/ws")) as socket:
        await socket.send_str("hé")
        assert await socket.receive_str(timeout=DEADLINE) == "hé"
        await socket.send_bytes(b"\x00\xff")
        assert await socket.receive_bytes(timeout=DEADLINE) == b"\x00\xff"


# Starting and stopping


async def test_stopping_finishes_what_is_in_flight(module_mongo_database: str, tmp_path: Path) -> None:
    stopping, stopped = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        stopping.set()
        await stopped.wait()
        yield b"last"

    async with started("proxim8", module_mongo_database, tmp_path) as server:
        socket = await server.session.ws_connect(server.url.with_path("/ws"))
        upload = asyncio.create_task(server.call("POST", "/api/uploads", data=body()))
        await stopping.wait()
        # The server has the request once it answers another one that was sent after it.
        await server.ok("GET", "/health")
        server.running.signal(signal.SIGTERM)
        message = await socket.receive(timeout=DEADLINE)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)
        await socket.close()
        await refuses_connections(server.url)
        stopped.set()
        assert (await upload).data["bytes"] == len(b"firstlast")
        assert await server.running.exited() == 0
    log = server.running.log.read_text()
    assert '"event":"stopped","service":"proxim8","status":0' in log


async def refuses_connections(url: URL) -> None:
    """Return once nothing listens there any more."""
    # Reset: it stopped listening between the two halves of the handshake.
    with contextlib.suppress(ConnectionRefusedError, ConnectionResetError):
        async with asyncio.timeout(DEADLINE):
            while True:
                _, writer = await asyncio.open_connection(url.host, url.port)
                writer.close()
                await writer.wait_closed()


@pytest.mark.parametrize(
    ("name", "wrong", "line"),
    [
        ("core", {"JWT_SECRET": ""}, "JWT_SECRET is not set"),
        ("core", {"MONGO_URL": ""}, "MONGO_URL is not set"),
        ("proxim8", {"PORT": "http"}, "PORT must be a whole number"),
        ("proxim8", {"JOB_CAPACITY": "-1"}, "JOB_CAPACITY must be a whole number"),
    ],
)
async def test_a_wrong_environment_ends_the_start(
    module_mongo_database: str, tmp_path: Path, name: OldName, wrong: dict[str, str], line: str
) -> None:
    with pytest.raises(NotReady, match=f"ended with status 2; .*{line}"):
        async with started(name, module_mongo_database, tmp_path, **wrong):
            raise AssertionError("it started")


@contextlib.asynccontextmanager
async def relay(port: int, target: URL) -> AsyncIterator[None]:
    """A TCP port that leads to `target` until the block ends, which cuts what is connected."""
    writers: set[asyncio.StreamWriter] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(target.host, target.port)
        writers.update((writer, far_writer))
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        writers.difference_update((writer, far_writer))

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        async with asyncio.timeout(DEADLINE):
            await server.wait_closed()


@pytest.mark.parametrize(
    ("name", "path"), [("core", "/api/accounts?limit=1"), ("proxim8", "/api/videos/public?limit=1")]
)
async def test_a_database_that_goes_away_is_a_503_until_it_is_back(
    module_mongo_database: str, tmp_path: Path, name: OldName, path: str
) -> None:
    store, port = URL(module_mongo_database), free_port()
    around = str(store.with_port(port).update_query(directConnection="true"))
    async with contextlib.AsyncExitStack() as stack:
        async with relay(port, store):
            server = await stack.enter_async_context(started(name, around, tmp_path))
            await server.ok("GET", path)
        for answer in await asyncio.gather(server.call("GET", path), server.call("GET", "/health")):
            assert (answer.status, answer.body) == (503, {"success": False, "error": "Database unavailable"})
            assert answer.headers["Retry-After"] == "1"
        async with relay(port, store), asyncio.timeout(DEADLINE):
            while (await server.call("GET", path)).status == 503:
                pass
            await server.ok("GET", path)
            await stack.aclose()
