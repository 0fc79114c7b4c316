"""WebSocket tunnels, as bytes and through a real WebSocket client and server."""

import asyncio

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from yarl import URL

from proxy.forwarding.upstream import Timeouts
from tests.wire import DEADLINE, Message, Peer, Proxy, answering, origin, proxy, until_gone

ASK = (
    b"GET /live?x=1 HTTP/1.1\r\nHost: shop.example\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: a, b\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
ACCEPT = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\nSec-WebSocket-Protocol: b\r\n\r\n"
)


async def accept(peer: Peer) -> Message:
    asked = Message(await peer.head(), b"")
    await peer.send(ACCEPT)
    return asked


async def upgraded(client: Peer, *early: bytes) -> Message:
    await client.send(ASK + b"".join(early))
    answer = Message(await client.head(), b"")
    assert answer.start == b"HTTP/1.1 101 Switching Protocols"
    return answer


async def test_any_octets_go_both_ways_also_those_sent_with_the_handshakes() -> None:
    everything = bytes(range(256))

    async def script(peer: Peer) -> None:
        asked = Message(await peer.head(), b"")
        assert asked.start == b"GET /live?x=1 HTTP/1.1"
        assert asked.values(b"Connection") == [b"Upgrade"]
        assert asked.values(b"Upgrade") == [b"websocket"]
        assert asked.values(b"Sec-WebSocket-Key") == [b"AAAAAAAAAAAAAAAAAAAAAA=="]
        assert asked.values(b"Sec-WebSocket-Protocol") == [b"a, b"]
        assert asked.values(b"Sec-WebSocket-Extensions") == [b"permessage-deflate"]
        assert asked.values(b"X-Forwarded-For") == [b"127.0.0.1"]
        await peer.send(ACCEPT + b"early down")
        assert await peer.exactly(8) == b"early up"
        assert await peer.exactly(256) == everything
        await peer.send(everything)
        await until_gone(peer)

    async with origin(script) as old, proxy(old.url) as running, running.client() as client:
        answer = await upgraded(client, b"early up")
        assert answer.values(b"Connection") == [b"Upgrade"]
        assert answer.values(b"Upgrade") == [b"websocket"]
        assert answer.values(b"Sec-WebSocket-Protocol") == [b"b"]
        assert answer.values(b"Sec-WebSocket-Accept") == [b"ICX+Yqv66kxgM0FcWaLWlFLwTAI="]
        assert await client.exactly(10) == b"early down"
        await client.send(everything)
        assert await client.exactly(256) == everything


async def test_the_last_words_of_a_client_arrive() -> None:
    heard = asyncio.Event()

    async def script(peer: Peer) -> None:
        await accept(peer)
        assert await peer.rest() == b"goodbye"
        heard.set()

    async with origin(script) as old, proxy(old.url) as running:
        async with running.client() as client:
            await upgraded(client)
            await client.send(b"goodbye")
        async with asyncio.timeout(DEADLINE):
            await heard.wait()


async def test_the_last_words_of_a_client_arrive_at_a_slow_upstream() -> None:
    words = bytes(range(256)) * 256 * 128
    heard = asyncio.Event()

    async def script(peer: Peer) -> None:
        await accept(peer)
        for at in range(0, len(words), 65536):
            assert await peer.exactly(65536) == words[at : at + 65536]
            await asyncio.sleep(0)
        assert await peer.rest() == b""
        heard.set()

    async with origin(script) as old, proxy(old.url) as running:
        async with running.client() as client:
            await upgraded(client)
            await client.send(words)
        async with asyncio.timeout(DEADLINE):
            await heard.wait()


async def test_the_last_words_of_an_upstream_arrive() -> None:
    async def script(peer: Peer) -> None:
        await accept(peer)
        await peer.send(b"goodbye")

    async with origin(script) as old, proxy(old.url) as running, running.client() as client:
        await upgraded(client)
        assert await client.rest() == b"goodbye"


async def test_a_refused_upgrade_is_an_ordinary_answer_and_the_connection_goes_on() -> None:
    refusal = b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno"
    plain = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    async with origin(answering(refusal, plain)) as old, proxy(old.url) as running, running.client() as client:
        await client.send(ASK)
        assert (await client.message()).start == b"HTTP/1.1 426 Upgrade Required"
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.message()).body == b"ok"


async def test_other_protocols_are_not_asked_for() -> None:
    seen: list[Message] = []
    plain = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    async with origin(answering(plain, seen=seen)) as old, proxy(old.url) as running:
        answer = await running.ask(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    assert answer.body == b"ok"
    assert seen[0].values(b"Upgrade") == []


async def test_a_silent_tunnel_ends_on_both_sides() -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await accept(peer)
        assert await peer.rest() == b""
        gone.set()

    async with origin(script) as old, proxy(old.url, timeouts=Timeouts(tunnel=0.1)) as running:
        async with running.client() as client:
            await upgraded(client)
            assert await client.rest() == b""
        async with asyncio.timeout(DEADLINE):
            await gone.wait()


async def test_the_deadline_of_an_answer_does_not_end_a_tunnel() -> None:
    timeouts = Timeouts(first_byte=0.1, idle=0.1)

    async def script(peer: Peer) -> None:
        await accept(peer)
        for word in (b"still ", b"here"):
            await asyncio.sleep(0.3)
            await peer.send(word)
        await until_gone(peer)

    async with origin(script) as old, proxy(old.url, timeouts=timeouts) as running, running.client() as client:
        await upgraded(client)
        assert await client.exactly(10) == b"still here"


async def test_shutdown_ends_tunnels() -> None:
    async def script(peer: Peer) -> None:
        await accept(peer)
        assert await peer.rest() == b""

    async with origin(script) as old, proxy(old.url) as running, running.client() as client:
        await upgraded(client)
        await running.forwarder.close_tunnels()
        assert await client.rest() == b""


@pytest.mark.parametrize("slow", ["client", "upstream"])
async def test_a_slow_end_holds_the_other_back_and_loses_nothing(slow: str) -> None:
    piece, pieces = bytes(range(256)) * 256, 512
    go, sent = asyncio.Event(), 0

    async def pour(peer: Peer) -> None:
        nonlocal sent
        for _ in range(pieces):
            await peer.send(piece)
            sent += 1

    async def drink(peer: Peer) -> None:
        async with asyncio.timeout(DEADLINE):
            await go.wait()
        assert await peer.exactly(len(piece) * pieces) == piece * pieces

    async def script(peer: Peer) -> None:
        await accept(peer)
        await (pour if slow == "client" else drink)(peer)
        await until_gone(peer)

    async with origin(script) as old, proxy(old.url) as running, running.client() as client:
        await upgraded(client)
        task = asyncio.create_task((drink if slow == "client" else pour)(client))
        before = -1
        while sent != before or sent == 0:
            before = sent
            await asyncio.sleep(0.2)
        assert sent < pieces // 2
        go.set()
        await task


async def serve_websocket(request: web.Request) -> web.WebSocketResponse:
    """Echoes; says its subprotocol on connect; closes with 4001 when told to."""
    socket = web.WebSocketResponse(protocols=["b"])
    await socket.prepare(request)
    await socket.send_str(socket.ws_protocol or "")
    async for message in socket:
        if message.data == "end":
            await socket.close(code=4001, message=b"as you wish")
        elif message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        else:
            await socket.send_bytes(message.data)
    return socket


async def test_a_real_websocket_keeps_subprotocol_compression_ping_and_close_code() -> None:
    runner = web.ServerRunner(web.Server(serve_websocket))  # type: ignore[arg-type]
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with proxy(URL(f"http://127.0.0.1:{runner.addresses[0][1]}")) as running:
            await converse(running)
    finally:
        await runner.cleanup()


async def converse(running: Proxy) -> None:
    url = f"http://127.0.0.1:{running.port}/live"
    async with aiohttp.ClientSession() as session, session.ws_connect(url, protocols=["a", "b"], compress=15) as socket:
        assert socket.protocol == "b"
        assert socket.compress == 15
        assert await socket.receive_str(timeout=DEADLINE) == "b"
        await socket.ping()
        await socket.send_str("hello" * 10_000)
        assert await socket.receive_str(timeout=DEADLINE) == "hello" * 10_000
        await socket.send_bytes(bytes(300_000))
        assert await socket.receive_bytes(timeout=DEADLINE) == bytes(300_000)
        await socket.send_str("end")
        end = await socket.receive(timeout=DEADLINE)
        assert (end.type, end.data, end.extra) == (WSMsgType.CLOSE, 4001, "as you wish")
