"""The forwarder when an end misbehaves: bad framing, dead and slow upstreams, clients that leave, retries, pressure."""

import asyncio
import json
import socket

import pytest
from structlog.testing import capture_logs
from yarl import URL

from proxy.failure import NEVER_SENT
from proxy.forwarding.upstream import Limits, Timeouts
from tests.wire import DEADLINE, Message, Peer, Proxy, Script, answering, origin, proxy, until_gone

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET /?secret=1 HTTP/1.1\r\nHost: x\r\n\r\n"
SHORT = Timeouts(first_byte=0.1, idle=0.1)


def error_of(answer: Message) -> tuple[int, str]:
    """Status and reason of a failure in JSON."""
    assert answer.values(b"Content-Type") == [b"application/json"]
    body = json.loads(answer.body)
    assert body["success"] is False
    assert isinstance(body["error"], str)
    return int(answer.start.split(b" ")[1]), body["reason"]


# Framing that two servers may read in two ways


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 3",
        b"Content-Length: 3\r\nContent-Length: 4",
        b"Content-Length: +3",
        b"Content-Length : 3",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: xchunked",
        b"X-Folded: a\r\n b",
        b"Host: second",
    ],
)
async def test_ambiguous_framing_is_refused_and_the_connection_closed(fields: bytes) -> None:
    async with origin(answering(OK)) as old, proxy(old.url) as running, running.client() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n0\r\n\r\n" % fields)
        assert b" 400 " in (await client.message()).start
        assert await client.rest() == b""
        assert old.connections == 0


@pytest.mark.parametrize(
    ("version", "coding", "status"),
    [(b"1.1", b"gzip, chunked", 501), (b"1.0", b"chunked", 400), (b"1.1", b"gzip", 400)],
)
async def test_transfer_codings_that_cannot_be_passed_on_are_refused(
    version: bytes, coding: bytes, status: int
) -> None:
    async with origin(answering(OK)) as old, proxy(old.url) as running, running.client() as client:
        await client.send(
            b"POST / HTTP/%b\r\nHost: x\r\nTransfer-Encoding: %b\r\n\r\n0\r\n\r\n%b" % (version, coding, GET)
        )
        assert b" %d " % status in (await client.message()).start
        assert await client.rest() == b""
        assert old.connections == 0


async def test_connect_is_refused() -> None:
    async with origin(answering(OK)) as old, proxy(old.url) as running:
        assert error_of(await running.ask(b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n")) == (501, "method_not_supported")
        assert old.connections == 0


async def test_a_malformed_chunk_from_the_client_ends_both_connections() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        assert await peer.chunk() == b"abc"
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await peer.chunk()

    async with origin(script) as old, proxy(old.url) as running, running.client() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await client.send(b"zz\r\n")
        answer = await client.message()
        assert b" 400 " in answer.start
        assert await client.rest() == b""


# Upstreams that are away, or talk nonsense


async def test_nobody_listening_is_a_502_that_was_never_sent() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with proxy(URL(f"http://127.0.0.1:{unused.getsockname()[1]}"), request_id="r-9") as running:
            answer = await running.ask(GET)
    assert error_of(answer) == (502, "upstream_unreachable")
    assert json.loads(answer.body)["requestId"] == "r-9"
    assert answer.values(b"Retry-After") == [b"1"]
    assert running.failures[0].reason in NEVER_SENT


@pytest.mark.parametrize(
    ("garbage", "reason"),
    [
        (b"", "upstream_closed"),
        (b"HTTP/1.1 200 OK\r\nContent-", "upstream_closed"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "upstream_malformed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n", "upstream_malformed"),
        (b"HTTP/1.1 200 OK\r\nX: %b\r\n\r\n" % (b"x" * 40_000), "upstream_malformed"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "upstream_malformed"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "upstream_malformed"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "upstream_malformed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "upstream_malformed"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 65, "upstream_malformed"),
    ],
)
async def test_garbage_before_an_answer_is_a_502(garbage: bytes, reason: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.message()
        await peer.send(garbage)

    async with origin(script) as old, proxy(old.url) as running, running.client() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        answer = await client.message()
        while b" 103 " in answer.start:
            answer = await client.message()
        assert error_of(answer) == (502, reason)
        assert running.failures[0].reason not in NEVER_SENT


async def test_a_reset_before_an_answer_is_a_502() -> None:
    async def script(peer: Peer) -> None:
        await peer.message()
        peer.reset()

    async with origin(script) as old, proxy(old.url) as running:
        assert error_of(await running.ask(GET)) == (502, "upstream_closed")


async def test_silence_is_a_504() -> None:
    async def script(peer: Peer) -> None:
        await peer.message()
        await until_gone(peer)

    async with origin(script) as old, proxy(old.url, timeouts=SHORT) as running:
        assert error_of(await running.ask(GET)) == (504, "upstream_timeout")


async def test_a_connection_that_is_not_accepted_in_time_is_a_504() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        queued = [await asyncio.open_connection("127.0.0.1", port)]
        try:
            async with proxy(URL(f"http://127.0.0.1:{port}"), timeouts=Timeouts(connect=0.1)) as running:
                answer = await running.ask(GET)
        finally:
            for _, writer in queued:
                writer.close()
    assert error_of(answer) == (504, "upstream_connect_timeout")


async def test_a_client_that_stops_uploading_is_a_408() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await until_gone(peer)

    async with origin(script) as old, proxy(old.url, timeouts=SHORT) as running:
        answer = await running.ask(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
        assert error_of(answer) == (408, "client_timeout")


@pytest.mark.parametrize(
    "beginning",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ],
)
@pytest.mark.parametrize("end", ["closes", "resets", "stalls"])
async def test_an_answer_that_breaks_off_never_looks_complete(beginning: bytes, end: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.message()
        await peer.send(beginning)
        if end == "resets":
            peer.reset()
        if end == "stalls":
            await until_gone(peer)

    timeouts = Timeouts(first_byte=1000, idle=0.1)
    async with (
        origin(script) as old,
        proxy(old.url, timeouts=timeouts, tapped=100) as running,
        running.client() as client,
    ):
        await client.send(GET)
        try:
            await client.message()
            raise AssertionError("a truncated answer looked complete")
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            pass
        async with asyncio.timeout(DEADLINE):
            await running.taps[0].wait()
        assert running.taps[0].complete is False


async def test_a_body_may_take_longer_than_its_first_byte() -> None:
    async def script(peer: Peer) -> None:
        await peer.message()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        for piece in (b"all ", b"of ", b"it"):
            await asyncio.sleep(0.2)
            await peer.send(piece)
        await until_gone(peer)

    timeouts = Timeouts(first_byte=0.1, idle=1000)
    async with origin(script) as old, proxy(old.url, timeouts=timeouts) as running:
        assert (await running.ask(GET)).body == b"all of it"


async def test_a_malformed_chunk_inside_an_answer_breaks_it_off() -> None:
    read = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.message()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        async with asyncio.timeout(DEADLINE):
            await read.wait()
        await peer.send(b"zz\r\n")
        await until_gone(peer)

    async with origin(script) as old, proxy(old.url) as running, running.client() as client:
        await client.send(GET)
        await client.head()
        assert await client.chunk() == b"abc"
        read.set()
        with pytest.raises(ConnectionError):
            await client.rest()


async def test_a_reset_never_ends_a_body_that_lasts_until_the_end() -> None:
    read = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.message()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
        async with asyncio.timeout(DEADLINE):
            await read.wait()
        peer.reset()

    async with origin(script) as old, proxy(old.url) as running, running.client() as client:
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        await client.head()
        assert await client.exactly(3) == b"abc"
        read.set()
        with pytest.raises(ConnectionError):
            await client.rest()


# Connections kept and lost


def dying(*, answers: int, seen: list[Message]) -> Script:
    """Each connection answers `answers` requests, reads one more, and closes without a word."""

    async def script(peer: Peer) -> None:
        for _ in range(answers):
            seen.append(await peer.message())
            await peer.send(OK)
        seen.append(await peer.message())

    return script


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"DELETE"])
async def test_a_stale_connection_is_replaced_once_where_repeating_is_safe(method: bytes) -> None:
    seen: list[Message] = []
    async with origin(dying(answers=1, seen=seen)) as old, proxy(old.url) as running:
        request = b"%b / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi" % method
        assert (await running.ask(request)).body == b"ok"
        assert (await running.ask(request)).body == b"ok"
        assert old.connections == 2
    assert [message.body for message in seen] == [b"hi"] * 3


async def test_a_post_is_never_sent_twice() -> None:
    seen: list[Message] = []
    async with origin(dying(answers=1, seen=seen)) as old, proxy(old.url) as running:
        request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
        assert (await running.ask(request)).body == b"ok"
        assert error_of(await running.ask(request)) == (502, "upstream_closed")
        assert old.connections == 1
    assert len(seen) == 2


async def test_a_new_connection_that_dies_is_not_retried() -> None:
    seen: list[Message] = []
    async with origin(dying(answers=0, seen=seen)) as old, proxy(old.url) as running:
        assert error_of(await running.ask(GET)) == (502, "upstream_closed")
        assert old.connections == 1


async def test_an_unused_connection_is_closed_after_its_time() -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.message()
        await peer.send(OK)
        assert await peer.rest() == b""
        gone.set()

    async with origin(script) as old, proxy(old.url, timeouts=Timeouts(keep_alive=0.05)) as running:
        await running.ask(GET)
        async with asyncio.timeout(DEADLINE):
            await gone.wait()


async def test_connections_are_bounded_and_the_queue_for_them_too() -> None:
    first, go = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            try:
                await peer.message()
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            first.set()
            async with asyncio.timeout(DEADLINE):
                await go.wait()
            await peer.send(OK)

    limits = Limits(connections=1, waiting=1)
    async with origin(script) as old, proxy(old.url, limits=limits) as running, asyncio.TaskGroup() as group:
        lucky = group.create_task(running.ask(GET))
        async with asyncio.timeout(DEADLINE):
            await first.wait()
        rest = {group.create_task(running.ask(GET)) for _ in range(2)}
        done, waiting = await asyncio.wait(rest, return_when=asyncio.FIRST_COMPLETED, timeout=DEADLINE)
        assert [error_of(task.result()) for task in done] == [(503, "upstream_busy")]
        go.set()
        assert (await lucky).body == b"ok"
        assert [(await task).body for task in waiting] == [b"ok"]
        assert old.connections == 1


async def test_waiting_for_a_connection_has_a_deadline() -> None:
    started, go = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.message()
        started.set()
        async with asyncio.timeout(DEADLINE):
            await go.wait()
        await peer.send(OK)
        await answering(OK)(peer)

    limits, timeouts = Limits(connections=1, waiting=1), Timeouts(connect=1.0)
    async with (
        origin(script) as old,
        proxy(old.url, limits=limits, timeouts=timeouts) as running,
        running.client() as holder,
    ):
        await holder.send(GET)
        async with asyncio.timeout(DEADLINE):
            await started.wait()
        assert error_of(await running.ask(GET)) == (503, "upstream_busy")
        next_in_line = asyncio.create_task(running.ask(GET))
        go.set()
        assert (await next_in_line).body == b"ok"


# Clients that leave


async def test_a_client_that_leaves_takes_its_request_with_it() -> None:
    started, gone = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.message()
        started.set()
        await until_gone(peer)
        gone.set()

    async with origin(script) as old, proxy(old.url) as running:
        async with running.client() as client:
            await client.send(GET)
            async with asyncio.timeout(DEADLINE):
                await started.wait()
        async with asyncio.timeout(DEADLINE):
            await gone.wait()


async def test_a_shielded_exchange_outlives_its_client() -> None:
    started, go = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.message()
        started.set()
        async with asyncio.timeout(DEADLINE):
            await go.wait()
        await peer.send(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n")
        await until_gone(peer)

    async with origin(script) as old, proxy(old.url, tapped=100, shield=True) as running:
        async with running.client() as client:
            await client.send(GET)
            async with asyncio.timeout(DEADLINE):
                await started.wait()
        async with asyncio.timeout(DEADLINE):
            await running.cancelled.wait()
            go.set()
            await running.taps[0].wait()
    tap = running.taps[0]
    assert (tap.status, tap.complete, tap.body) == (201, True, b"abc")


# Pressure


async def test_a_client_that_takes_nothing_for_too_long_is_cut_off() -> None:
    cut = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.message()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                await peer.send(bytes(65536))
        except ConnectionError:
            cut.set()

    async with origin(script) as old, proxy(old.url, timeouts=SHORT) as running, running.client() as client:
        await client.send(GET)
        async with asyncio.timeout(DEADLINE):
            await cut.wait()


async def test_whatever_happens_connections_are_given_back() -> None:
    started = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            try:
                message = await peer.message()
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            match message.start.split(b" ")[1]:
                case b"/fine":
                    await peer.send(OK)
                case b"/cut":
                    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
                    return
                case b"/garbage":
                    await peer.send(b"?\r\n\r\n")
                case b"/reset":
                    peer.reset()
                    return
                case _:
                    started.set()
                    await until_gone(peer)

    async def once(running: Proxy, path: bytes) -> None:
        async with running.client() as client:
            await client.send(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi" % path)
            try:
                await client.message()
            except (asyncio.IncompleteReadError, ConnectionError):
                assert path == b"/cut"

    limits = Limits(connections=3)
    async with origin(script) as old, proxy(old.url, limits=limits) as running:
        paths = [b"/fine", b"/cut", b"/garbage", b"/reset"] * 25
        async with asyncio.TaskGroup() as group:
            for path in paths:
                group.create_task(once(running, path))
        leaver = asyncio.create_task(once(running, b"/silent"))
        async with asyncio.timeout(DEADLINE):
            await started.wait()
        assert running.forwarder.lent() == {"old": 1}
        leaver.cancel()
        async with asyncio.timeout(DEADLINE):
            await running.cancelled.wait()
        assert (await running.ask(b"GET /fine HTTP/1.1\r\nHost: x\r\n\r\n")).body == b"ok"
        assert running.forwarder.lent() == {"old": 0}


# What is said about it


async def test_events_name_the_trouble_and_hold_nothing_of_the_request() -> None:
    async def script(peer: Peer) -> None:
        message = await peer.message()
        if message.start.startswith(b"GET"):
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")

    secret = b"Authorization: Bearer swordfish\r\nContent-Length: 9\r\n\r\nswordfish"
    with capture_logs() as events:
        async with origin(script) as old, proxy(old.url, request_id="r-7") as running:
            await running.ask(b"POST /?token=swordfish HTTP/1.1\r\nHost: x\r\n%b" % secret)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await running.ask(b"GET /?token=swordfish HTTP/1.1\r\nHost: x\r\n%b" % secret)
    failed, truncated = events
    assert failed == {
        "event": "forward_failed",
        "log_level": "warning",
        "method": "POST",
        "upstream": "old",
        "status": 502,
        "reason": "upstream_closed",
        "cause": "ServerDisconnectedError",
        "request_id": "r-7",
    }
    assert truncated == {
        "event": "forward_truncated",
        "log_level": "warning",
        "method": "GET",
        "upstream": "old",
        "status": 200,
        "cause": "ClientPayloadError",
        "request_id": "r-7",
    }


async def test_a_slow_client_holds_the_upstream_back_and_loses_nothing() -> None:
    piece, pieces = bytes(65536), 1024
    written = 0

    async def script(peer: Peer) -> None:
        nonlocal written
        await peer.message()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(piece) * pieces))
        for _ in range(pieces):
            await peer.send(piece)
            written += 1
        await until_gone(peer)

    async with origin(script) as old, proxy(old.url) as running, running.client() as client:
        await client.send(GET)
        await client.head()
        before = -1
        while written != before:  # until the upstream has stood still for a moment
            before = written
            await asyncio.sleep(0.2)
        assert written < pieces // 2
        assert await client.exactly(len(piece) * pieces) == piece * pieces


async def test_a_slow_upstream_holds_the_client_back_and_loses_nothing() -> None:
    piece, pieces = bytes(65536), 1024
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        async with asyncio.timeout(DEADLINE):
            await go.wait()
        assert await peer.exactly(len(piece) * pieces) == piece * pieces
        await peer.send(OK)
        await until_gone(peer)

    async with origin(script) as old, proxy(old.url) as running, running.client() as client:
        await client.send(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (len(piece) * pieces))
        sent = 0

        async def pour() -> None:
            nonlocal sent
            for _ in range(pieces):
                await client.send(piece)
                sent += 1

        pouring = asyncio.create_task(pour())
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.2)
        assert sent < pieces // 2
        go.set()
        await pouring
        assert (await client.message()).body == b"ok"
