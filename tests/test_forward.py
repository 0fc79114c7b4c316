"""The forwarder on real sockets: what goes up and what comes down, octet by octet."""

import asyncio
import gzip

import pytest

from proxy.forwarding.upstream import Timeouts
from tests.wire import Message, Peer, answering, origin, proxy, until_gone

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"//double//slash/",
        b"/a%2Fb%2fc/%41",
        b"/a/../b/./c",
        b"/path;x=1;y?",
        b"/?",
        b"/q?a=1&a=2&&b=%20+%zz",
        b"/q?redirect=http://x/?y=1",
        b"/caf%C3%A9",
        b"*",
    ],
)
async def test_the_target_goes_up_as_it_came(target: bytes) -> None:
    seen: list[Message] = []
    async with origin(answering(OK, seen=seen)) as old, proxy(old.url) as running:
        await running.ask(b"OPTIONS %b HTTP/1.1\r\nHost: shop.example\r\n\r\n" % target)
    assert seen[0].start == b"OPTIONS %b HTTP/1.1" % target


@pytest.mark.parametrize(
    ("method", "target", "sent"),
    [
        (b"GET", b"http://real.example:81/a?b", b"/a?b"),
        (b"GET", b"http://real.example:81", b"/"),
        (b"GET", b"http://me:pw@real.example:81/", b"/"),
        (b"GET", b"http://real.example:81?x=1", b"/?x=1"),
        (b"OPTIONS", b"http://real.example:81", b"*"),
    ],
)
async def test_an_absolute_target_becomes_origin_form_and_beats_host(method: bytes, target: bytes, sent: bytes) -> None:
    seen: list[Message] = []
    async with origin(answering(OK, seen=seen)) as old, proxy(old.url) as running:
        await running.ask(b"%b %b HTTP/1.1\r\nHost: other.example\r\n\r\n" % (method, target))
    assert seen[0].start == b"%b %b HTTP/1.1" % (method, sent)
    assert seen[0].values(b"X-Forwarded-Host") == [b"real.example:81"]


async def test_an_upstream_under_a_path_prefixes_targets() -> None:
    seen: list[Message] = []
    async with origin(answering(OK, seen=seen)) as old, proxy(old.url / "v1") as running:
        await running.ask(b"GET /a//b? HTTP/1.1\r\nHost: x\r\n\r\n")
    assert seen[0].start == b"GET /v1/a//b? HTTP/1.1"


async def test_fields_go_up_with_case_order_and_duplicates_and_without_those_of_the_hop() -> None:
    seen: list[Message] = []
    async with origin(answering(OK, seen=seen)) as old, proxy(old.url) as running:
        await running.ask(
            b"GET / HTTP/1.1\r\nx-lower: 1\r\nHost: shop.example\r\nAccept: a\r\nX-UPPER: \xe9\xff\r\naccept: b\r\n"
            b"Cookie: a=1\r\nCookie: b=2\r\nX-Empty:\r\nX-Inner:  spaced  out \r\n"
            b"Connection: x-secret, Keep-Alive\r\nX-Secret: 1\r\nKeep-Alive: timeout=9\r\nTE: trailers\r\n"
            b"Proxy-Connection: x\r\nProxy-Authorization: x\r\nUpgrade: h2c\r\nTrailer: x\r\n\r\n"
        )
        host = b"127.0.0.1:%d" % old.port
    assert seen[0].fields == [
        b"Host: " + host,
        b"x-lower: 1",
        b"Accept: a",
        b"X-UPPER: \xe9\xff",
        b"accept: b",
        b"Cookie: a=1",
        b"Cookie: b=2",
        b"X-Empty: ",
        b"X-Inner: spaced  out",
        b"X-Forwarded-For: 127.0.0.1",
        b"X-Forwarded-Proto: http",
        b"X-Forwarded-Host: shop.example",
        b'Forwarded: for=127.0.0.1;proto=http;host="shop.example"',
        b"Via: 1.1 strangler",
    ]


async def test_a_request_of_few_fields_gets_none_that_a_client_library_would_add() -> None:
    seen: list[Message] = []
    async with origin(answering(OK, seen=seen)) as old, proxy(old.url) as running:
        await running.ask(b"POST / HTTP/1.0\r\n\r\n")
    names = [line.split(b":")[0] for line in seen[0].fields]
    assert names == [b"Host", b"X-Forwarded-For", b"X-Forwarded-Proto", b"Forwarded", b"Via"]
    assert seen[0].values(b"Via") == [b"1.0 strangler"]


async def test_what_earlier_proxies_said_is_kept_and_appended_to() -> None:
    seen: list[Message] = []
    async with origin(answering(OK, seen=seen)) as old, proxy(old.url) as running:
        await running.ask(
            b"GET / HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 1.1.1.1\r\nVia: 2 edge\r\nx-forwarded-for: 2.2.2.2\r\n"
            b"Forwarded: for=1.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: www.example\r\nVia: 1.1 inner\r\n\r\n"
        )
    assert seen[0].values(b"X-Forwarded-For") == [b"1.1.1.1, 2.2.2.2, 127.0.0.1"]
    assert seen[0].values(b"X-Forwarded-Proto") == [b"https, http"]
    assert seen[0].values(b"X-Forwarded-Host") == [b"www.example, shop.example"]
    assert seen[0].values(b"Forwarded") == [b'for=1.1.1.1, for=127.0.0.1;proto=http;host="shop.example"']
    assert seen[0].values(b"Via") == [b"2 edge, 1.1 inner, 1.1 strangler"]


async def test_the_request_id_and_extra_fields_replace_the_clients() -> None:
    seen: list[Message] = []
    async with (
        origin(answering(b"HTTP/1.1 204 No Content\r\nX-Request-Id: theirs\r\n\r\n", seen=seen)) as old,
        proxy(old.url, request_id="r-1", extra_headers=[("X-Wallet", "0xabc")]) as running,
    ):
        answer = await running.ask(b"GET / HTTP/1.1\r\nHost: x\r\nx-request-id: mine\r\nx-wallet: forged\r\n\r\n")
    assert seen[0].values(b"X-Request-Id") == [b"r-1"]
    assert seen[0].values(b"X-Wallet") == [b"0xabc"]
    assert answer.values(b"X-Request-Id") == [b"r-1"]
    assert answer.values(b"X-Wallet") == []


# Bodies up


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate", b"br", b"zstd", b"made-up"])
async def test_bodies_pass_untouched_whatever_their_encoding(encoding: bytes) -> None:
    payload = gzip.compress(b'{"a": 1}') if encoding == b"gzip" else bytes(range(256))
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        encoding,
        len(payload),
        payload,
    )
    seen: list[Message] = []
    async with origin(answering(answer, seen=seen)) as old, proxy(old.url) as running:
        request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n%b"
        got = await running.ask(request % (encoding, len(payload), payload))
    assert seen[0].body == payload
    assert got.body == payload
    assert got.values(b"Content-Encoding") == [encoding]


async def test_a_length_stays_a_length_and_chunks_stay_chunks() -> None:
    seen: list[Message] = []
    async with origin(answering(OK, OK, seen=seen)) as old, proxy(old.url) as running:
        await running.ask(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
        await running.ask(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2;ext=1\r\nde\r\n1\r\nf\r\n0\r\n\r\n"
        )
    assert [message.body for message in seen] == [b"abc", b"def"]
    assert seen[0].values(b"Content-Length") == [b"3"]
    assert seen[0].values(b"Transfer-Encoding") == []
    assert seen[1].values(b"Transfer-Encoding") == [b"chunked"]
    assert seen[1].values(b"Content-Length") == []


@pytest.mark.parametrize("framing", [b"Content-Length: 0\r\n", b""])
async def test_an_empty_body_keeps_its_framing(framing: bytes) -> None:
    seen: list[Message] = []
    async with origin(answering(OK, seen=seen)) as old, proxy(old.url) as running:
        await running.ask(b"DELETE / HTTP/1.1\r\nHost: x\r\n%b\r\n" % framing)
    assert seen[0].values(b"Content-Length") == ([b"0"] if framing else [])


async def test_an_upload_streams_while_it_comes() -> None:
    arrived = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        assert await peer.exactly(5) == b"first"
        arrived.set()
        assert await peer.exactly(4) == b"last"
        await peer.send(OK)
        await until_gone(peer)

    async with origin(script) as old, proxy(old.url) as running, running.client() as client:
        await client.send(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", b"first")
        async with asyncio.timeout(10):
            await arrived.wait()
        await client.send(b"last")
        assert (await client.message()).body == b"ok"


async def test_a_body_given_by_the_caller_takes_the_place_of_the_clients() -> None:
    seen: list[Message] = []
    async with origin(answering(OK, seen=seen)) as old, proxy(old.url, body=b"longer than before") as running:
        await running.ask(
            b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
        )
    assert seen[0].body == b"longer than before"
    assert seen[0].values(b"Content-Length") == [b"18"]
    assert seen[0].values(b"Transfer-Encoding") == []
    assert seen[0].values(b"Expect") == []


@pytest.mark.parametrize("body", [None, b"abc"], ids=["forwarded", "given by the caller"])
async def test_trailers_are_dropped_and_leak_into_no_later_request(body: bytes | None) -> None:
    seen: list[Message] = []
    script = answering(OK, OK, seen=seen)
    async with origin(script) as old, proxy(old.url, body=body) as running, running.client() as client:
        await client.send(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Evil: 1\r\n\r\n"
            b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        first = await client.message()
        assert first.values(b"Connection") == [b"close"]
        assert await client.rest() == b""
    assert len(seen) == 1
    assert seen[0].body == b"abc"
    assert seen[0].values(b"X-Evil") == []


# Answers down


async def test_an_answer_comes_down_with_case_order_and_duplicates() -> None:
    raw = (
        b"HTTP/1.1 203 Sort Of Fine\r\nset-cookie: a=1; Path=/\r\nX-ODD: \xe9\r\nSet-Cookie: b=2; Expires=Wed, 21 Oct 2026\r\n"
        b"Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n"
        b'etag: W/"1"\r\nContent-Length: 2\r\nVia: 1.1 inner\r\nTrailer: x\r\n\r\nok'
    )
    async with origin(answering(raw)) as old, proxy(old.url) as running:
        answer = await running.ask(GET)
    assert answer.start == b"HTTP/1.1 203 Sort Of Fine"
    assert answer.fields == [
        b"set-cookie: a=1; Path=/",
        b"X-ODD: \xe9",
        b"Set-Cookie: b=2; Expires=Wed, 21 Oct 2026",
        b"Date: Mon, 01 Jan 2024 00:00:00 GMT",
        b'etag: W/"1"',
        b"Via: 1.1 inner, 1.1 strangler",
        b"Content-Length: 2",
    ]


async def test_a_bare_answer_gets_a_date_and_a_via_and_nothing_else() -> None:
    async with origin(answering(OK)) as old, proxy(old.url) as running:
        answer = await running.ask(GET)
    assert [line.split(b":")[0] for line in answer.fields] == [b"Date", b"Via", b"Content-Length"]


@pytest.mark.parametrize(
    ("method", "answer", "fields"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n", [b"Content-Length: 12345"]),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", []),
        (
            b"GET",
            b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 99\r\n\r\n",
            [b"ETag: x", b"Content-Length: 99"],
        ),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", []),
        (b"DELETE", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", []),
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", [b"Content-Length: 0"]),
    ],
)
async def test_answers_without_a_body_leave_the_connection_in_step(
    method: bytes, answer: bytes, fields: list[bytes]
) -> None:
    async with origin(answering(answer, OK)) as old, proxy(old.url) as running, running.client() as client:
        await client.send(b"%b / HTTP/1.1\r\nHost: x\r\n\r\n" % method)
        got = await client.message(bodiless=True)
        await client.send(GET)
        assert (await client.message()).body == b"ok"
        assert old.connections == 1
    assert [line for line in got.fields if not line.startswith((b"Date", b"Via"))] == fields


async def test_a_range_and_its_partial_answer_pass() -> None:
    seen: list[Message] = []
    partial = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1-2/4\r\nContent-Length: 2\r\n\r\nbc"
    async with origin(answering(partial, seen=seen)) as old, proxy(old.url) as running:
        answer = await running.ask(b'GET / HTTP/1.1\r\nHost: x\r\nRange: bytes=1-2\r\nIf-Range: "v"\r\n\r\n')
    assert seen[0].values(b"Range") == [b"bytes=1-2"]
    assert seen[0].values(b"If-Range") == [b'"v"']
    assert answer.start == b"HTTP/1.1 206 Partial Content"
    assert answer.values(b"Content-Range") == [b"bytes 1-2/4"]
    assert answer.body == b"bc"


async def test_redirects_and_cookies_are_the_clients_business() -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nSet-Cookie: sid=1\r\nContent-Length: 0\r\n\r\n"
    seen: list[Message] = []
    async with origin(answering(moved, OK, seen=seen)) as old, proxy(old.url) as running:
        assert (await running.ask(GET)).values(b"Location") == [b"/elsewhere"]
        await running.ask(GET)
    assert len(seen) == 2
    assert seen[1].values(b"Cookie") == []


async def test_a_chunked_answer_streams_piece_by_piece_and_keeps_the_connection() -> None:
    taken = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.message()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        async with asyncio.timeout(10):
            await taken.wait()
        await peer.send(b"4\r\nlast\r\n0\r\nX-Trailer: 1\r\n\r\n")
        await answering(OK)(peer)

    async with origin(script) as old, proxy(old.url) as running, running.client() as client:
        await client.send(GET)
        head = await client.head()
        assert b"Transfer-Encoding: chunked" in head
        assert await client.chunk() == b"first"
        taken.set()
        assert await client.chunks() == b"last"
        await client.send(GET)
        assert (await client.message()).body == b"ok"
        assert old.connections == 1


async def test_a_body_that_ends_with_the_connection_is_chunked_for_the_client() -> None:
    async def script(peer: Peer) -> None:
        await peer.message()
        await peer.send(b"HTTP/1.0 200 OK\r\n\r\n", b"until the end")

    async with origin(script) as old, proxy(old.url) as running, running.client() as client:
        for _ in range(2):
            await client.send(GET)
            answer = await client.message()
            assert answer.values(b"Transfer-Encoding") == [b"chunked"]
            assert answer.values(b"Via") == [b"1.0 strangler"]
            assert answer.body == b"until the end"
        assert old.connections == 2


async def test_an_old_client_gets_plain_bytes_and_the_end_of_the_connection() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    async with origin(answering(chunked)) as old, proxy(old.url) as running, running.client() as client:
        await client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        answer = Message(await client.head(), b"")
        assert answer.values(b"Connection") == [b"close"]
        assert answer.values(b"Transfer-Encoding") == []
        assert await client.rest() == b"abc"


async def test_an_old_client_may_keep_its_connection_when_the_length_is_known() -> None:
    async with origin(answering(OK, OK)) as old, proxy(old.url) as running, running.client() as client:
        for _ in range(2):
            await client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert (await client.message()).values(b"Connection") == [b"keep-alive"]


async def test_a_client_that_asks_to_close_is_closed() -> None:
    async with origin(answering(OK)) as old, proxy(old.url) as running, running.client() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await client.message()).values(b"Connection") == [b"close"]
        assert await client.rest() == b""


async def test_pipelined_requests_are_answered_in_order() -> None:
    first, second = (OK.replace(b"ok", body) for body in (b"11", b"22"))
    async with origin(answering(first, second)) as old, proxy(old.url) as running, running.client() as client:
        await client.send(GET + GET)
        assert [(await client.message()).body for _ in range(2)] == [b"11", b"22"]


@pytest.mark.parametrize("goodbye", [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", OK + OK])
async def test_a_connection_that_is_over_or_out_of_step_is_not_used_again(goodbye: bytes) -> None:
    async with origin(answering(goodbye)) as old, proxy(old.url) as running:
        assert (await running.ask(GET)).body == b"ok"
        assert (await running.ask(GET)).body == b"ok"
        assert old.connections == 2


# 1xx


async def test_100_continue_comes_from_the_upstream_before_the_body_goes_up() -> None:
    agreed = asyncio.Event()

    async def script(peer: Peer) -> None:
        head = Message(await peer.head(), b"")
        assert head.values(b"Expect") == [b"100-continue"]
        agreed.set()
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await peer.exactly(3) == b"abc"
        await peer.send(OK)
        await until_gone(peer)

    timeouts = Timeouts(expect=1000)
    async with origin(script) as old, proxy(old.url, timeouts=timeouts) as running, running.client() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert (await client.message()).start == b"HTTP/1.1 100 Continue"
        assert agreed.is_set()
        await client.send(b"abc")
        assert (await client.message()).body == b"ok"


async def test_a_refused_upload_is_never_asked_for() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno")
        assert await peer.rest() == b""

    timeouts = Timeouts(expect=1000)
    async with origin(script) as old, proxy(old.url, timeouts=timeouts) as running, running.client() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        answer = await client.message()
        assert answer.start == b"HTTP/1.1 417 Expectation Failed"
        assert answer.values(b"Connection") == [b"close"]


async def test_an_upstream_that_ignores_expect_gets_the_body_after_a_while() -> None:
    timeouts = Timeouts(expect=0.05)
    async with origin(answering(OK)) as old, proxy(old.url, timeouts=timeouts) as running, running.client() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert (await client.message()).start == b"HTTP/1.1 100 Continue"
        await client.send(b"abc")
        assert (await client.message()).body == b"ok"


async def test_the_client_is_told_to_continue_only_once() -> None:
    async def script(peer: Peer) -> None:
        await peer.message()
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
        await until_gone(peer)

    timeouts = Timeouts(expect=0.05)
    async with origin(script) as old, proxy(old.url, timeouts=timeouts) as running, running.client() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert (await client.message()).start == b"HTTP/1.1 100 Continue"
        await client.send(b"abc")
        assert (await client.message()).start == b"HTTP/1.1 200 OK"


async def test_early_hints_pass() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: keep-alive\r\n\r\n"
    async with origin(answering(hints + OK)) as old, proxy(old.url) as running, running.client() as client:
        await client.send(GET)
        early = await client.message()
        assert early.start == b"HTTP/1.1 103 Early Hints"
        assert early.fields == [b"Link: </a.css>"]
        assert (await client.message()).body == b"ok"


async def test_an_answer_before_the_end_of_the_upload_comes_down_at_once() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\n\r\nno")
        await until_gone(peer)

    async with origin(script) as old, proxy(old.url) as running, running.client() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", b"some")
        answer = await client.message()
        assert answer.start == b"HTTP/1.1 413 Too Much"
        assert answer.values(b"Connection") == [b"close"]
        await running.ask(GET)
        assert old.connections == 2


async def test_both_directions_may_stream_at_once() -> None:
    async def echo(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while piece := await peer.chunk():
            await peer.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await peer.send(b"0\r\n\r\n")

    async with origin(echo) as old, proxy(old.url) as running, running.client() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.head()
        for word in (b"one", b"two"):
            await client.send(b"3\r\n%b\r\n" % word)
            assert await client.chunk() == word
        await client.send(b"0\r\n\r\n")
        assert await client.chunks() == b""
