"""What a tap gives of an answer that streamed past it."""

import gzip
import zlib

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.forwarding.tap import Tap, Undecodable
from tests.wire import answering, origin, proxy

PLAIN = b'{"success": true, "data": []}' * 20


def tapped(body: bytes, coding: str, *, bound: int = 10_000) -> Tap:
    tap = Tap(bound)
    tap.begin(200, CIMultiDictProxy(CIMultiDict({"Content-Encoding": coding} if coding else {})))
    tap.feed(body)
    tap.complete = True
    return tap


def gzipped(body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)


def raw_deflate(body: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(body) + compressor.flush()


@pytest.mark.parametrize(
    ("coding", "wire"),
    [
        ("", PLAIN),
        ("identity", PLAIN),
        ("gzip", gzipped(PLAIN)),
        ("X-GZIP", gzipped(PLAIN)),
        ("deflate", zlib.compress(PLAIN)),
        ("deflate", raw_deflate(PLAIN)),
        ("deflate, gzip", gzipped(zlib.compress(PLAIN))),
        ("gzip", b""),
    ],
    ids=["none", "identity", "gzip", "x-gzip", "deflate", "raw deflate", "both", "nothing"],
)
def test_decoding(coding: str, wire: bytes) -> None:
    assert tapped(wire, coding).decoded() == (PLAIN if wire else b"")


@pytest.mark.parametrize(
    ("coding", "wire", "message"),
    [
        ("br", b"\x0b", "'br' is not supported"),
        ("gzip", b"no gzip at all", "not valid gzip"),
        ("gzip", gzipped(PLAIN)[:-3], "truncated"),
        ("gzip", gzipped(bytes(200_000)), "over 100000 bytes"),
    ],
    ids=["br", "corrupt", "truncated", "bomb"],
)
def test_what_cannot_be_decoded_says_why(coding: str, wire: bytes, message: str) -> None:
    with pytest.raises(Undecodable, match=message):
        tapped(wire, coding).decoded()


async def test_a_tap_sees_the_wire_and_the_client_does_too() -> None:
    packed = gzipped(PLAIN)
    answer = b"HTTP/1.1 201 Created\r\nContent-Encoding: gzip\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer += b"%x\r\n%b\r\n5\r\n%b\r\n0\r\n\r\n" % (len(packed) - 5, packed[:-5], packed[-5:])
    async with origin(answering(answer)) as old, proxy(old.url, tapped=10_000) as running:
        got = await running.ask(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    tap = running.taps[0]
    assert got.body == packed
    assert (tap.status, tap.complete, tap.body, tap.decoded()) == (201, True, packed, PLAIN)
    assert tap.headers is not None
    assert tap.headers["x-a"] == "1"


@pytest.mark.parametrize(("bound", "kept"), [(5, b"hello"), (4, None), (0, None)])
async def test_a_body_over_the_bound_is_not_kept_but_still_relayed(bound: int, kept: bytes | None) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    async with origin(answering(answer)) as old, proxy(old.url, tapped=bound) as running:
        assert (await running.ask(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).body == b"hello"
    assert running.taps[0].body == kept
    assert running.taps[0].complete is True
    if kept is None:
        with pytest.raises(Undecodable, match="over the bound"):
            running.taps[0].decoded()


async def test_a_tap_of_a_request_that_failed_is_finished_and_empty() -> None:
    async with origin(answering()) as old, proxy(old.url / "x", tapped=5) as running:
        await running.ask(b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n")
        await running.taps[0].wait()
    assert (running.taps[0].status, running.taps[0].complete, running.taps[0].body) == (0, False, None)
