"""The table of the types matrix: every class of BSON value with its edges, and what each arrives as, by kind of field.

A kind is one of `tests/schema/matrix.prisma`'s fields without its form: `text`, `int`, … A kind that a value does not name
refuses it. What arrives is said here by its own arithmetic, not by the mapping's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import bson
from bson import DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.binary import Binary
from bson.code import Code
from bson.datetime_ms import DatetimeMS

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST, LATEST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)
NAN, INFINITY = float("nan"), float("inf")
HEX: Final = "65ab65ab65ab65ab65ab65ab"
LONG: Final = 96 << 10
"""Bytes: longer than what a page of PostgreSQL or a network packet takes."""

Arrives = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Element:
    """A BSON value byte by byte: what PyMongo does not write, or not like this."""

    type: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Value:
    """`under`: where in the value the trouble is, for what is refused. `only`: the kinds that it is tried with."""

    name: str
    bson: Any
    arrives: Arrives = field(default_factory=dict)
    under: str = ""
    only: frozenset[str] | None = None


def raw(*pairs: tuple[str, Any]) -> bytes:
    """A BSON document of these elements, in this order, names repeated where they are."""
    body = b"".join(_element(name, value) for name, value in pairs)
    return (len(body) + 5).to_bytes(4, "little") + body + b"\0"


def _element(name: str, value: Any) -> bytes:
    if isinstance(value, Element):
        return bytes([value.type]) + name.encode() + b"\0" + value.payload
    if isinstance(value, list):
        return _element(name, Element(4, raw(*((str(index), item) for index, item in enumerate(value)))))
    return bson.encode({name: value})[4:-1]


def string(data: bytes) -> bytes:
    return (len(data) + 1).to_bytes(4, "little") + data + b"\0"


def json(value: Any) -> Arrives:
    return {"doc": value, "plain": value}


def whole(number: int, json_form: Any = None) -> Arrives:
    """What a whole number arrives as, whichever BSON number it is."""
    arrives: Arrives = {kind: Decimal(number) for kind in ("decimal", "decimalText", "decimalDouble")}
    arrives |= json(number if json_form is None else json_form)
    if -(1 << 15) <= number < 1 << 15:
        arrives["small"] = number
    if -(1 << 31) <= number < 1 << 31:
        arrives |= {"int": number, "intWide": number, "intText": number}
    if -(1 << 63) <= number < 1 << 63:
        arrives |= {"big": number, "bigText": number, "digits": str(number)}
    if abs(number) <= 1 << 24:
        arrives["real"] = float(number)
    if float(number) == number:
        arrives |= {"float": float(number), "floatDecimal": float(number)}
    if abs(number) < 10**8:
        arrives["money"] = Decimal(number)
    return {**arrives, **_at_millis(number)}


def _at_millis(number: int) -> Arrives:
    try:
        return {"atMillis": EPOCH + timedelta(milliseconds=number)}
    except OverflowError:
        return {}


def fraction(number: float, *, decimal: bool, **more: Any) -> Arrives:
    """What a double with a fraction, or one beyond all integers, arrives as."""
    exact = Decimal(repr(number))
    decimals: Arrives = dict.fromkeys(("decimal", "decimalText", "decimalDouble"), exact) if decimal else {}
    return {"float": number, "floatDecimal": number, **json(number), **decimals, **more}


def no_number(number: float, name: str) -> Arrives:
    return {"float": number, "floatDecimal": number, "real": number, **json({"$numberDouble": name})}


def decimal(text: str, *, exact: bool = True, double: float | None = None, **more: Any) -> Value:
    """`exact`: it fits into PostgreSQL's decimal(65,30); `double`: that prints as the same number."""
    value = Decimal128(text)
    arrives: Arrives = {kind: Decimal(text) for kind in ("decimal", "decimalText", "decimalDouble")} if exact else {}
    if double is not None:
        arrives["floatDecimal"] = double
    return Value(f"decimal {text}", value, {**arrives, **json({"$numberDecimal": str(value)}), **more})


def text(name: str, value: str, **more: Any) -> Value:
    sizes = {"short": value} if len(value) <= 5 else {}
    if len(value) == 3:
        sizes["code"] = value
    return Value(f"text, {name}", value, {"text": value, **json(value), **sizes, **more})


def date(name: str, when: datetime, form: Any, **more: Any) -> Value:
    kinds = ("at", "exact", "atText", "atMillis")
    return Value(f"date, {name}", when, {**dict.fromkeys(kinds, when), **json({"$date": form}), **more})


def far(name: str, millis: int) -> Value:
    return Value(f"date, {name}", DatetimeMS(millis), json({"$date": {"$numberLong": str(millis)}}))


def binary(name: str, data: bytes, subtype: int, base64: str, **more: Any) -> Value:
    plain = {"bytes": data} if subtype == 0 else {}
    form = {"$binary": {"base64": base64, "subType": f"{subtype:02x}"}}
    return Value(f"binary, {name}", Binary(data, subtype), {**plain, **json(form), **more})


def in_json(name: str, value: Any, form: Any) -> Value:
    """What only Json can hold."""
    return Value(name, value, json(form))


def long(number: int) -> Mapping[str, str]:
    return {"$numberLong": str(number)}


def nested(depth: int, value: Any = 1) -> Any:
    for _ in range(depth):
        value = [value]
    return value


MIDDAY: Final = datetime(2026, 1, 2, 12, 30, 15, 678000, tzinfo=UTC)
MIDNIGHT: Final = datetime(2026, 1, 2, tzinfo=UTC)
UUID: Final = "00112233-4455-6677-8899-aabbccddeeff"
UUID_BYTES: Final = bytes.fromhex(UUID.replace("-", ""))
EVERY_TYPE: Final = {
    "s": "x", "i": 1, "l": Int64(2**60), "d": 0.5, "z": -0.0, "n": None, "b": False, "o": ObjectId(HEX), "t": MIDNIGHT,
    "c": Decimal128("1.50"), "r": Regex("^a", "i"), "bin": b"\0\xff", "ts": Timestamp(5, 6), "e": {}, "a": [[], {}],
}  # fmt: skip

NUMBERS: Final = [
    *(Value(f"int32 {n}", n, whole(n)) for n in (0, 1, -1, 2**15, -(2**15), 2**31 - 1, -(2**31))),
    Value("int32 10^8", 10**8, {**whole(10**8), "real": 1e8}),
    *(Value(f"int64 {n}", Int64(n), whole(n)) for n in (0, 2**31, -(2**31) - 1, 2**53, -(2**53))),
    Value("int64 2^53+1", Int64(2**53 + 1), whole(2**53 + 1, long(2**53 + 1))),
    Value("int64 greatest", Int64(2**63 - 1), whole(2**63 - 1, long(2**63 - 1))),
    Value("int64 least", Int64(-(2**63)), whole(-(2**63), long(-(2**63)))),
    *(Value(f"double {n}", float(n), whole(n)) for n in (0, 1, -5, 2**31, 2**53)),
    Value("double -0.0", -0.0, {
        **whole(0, {"$numberDouble": "-0.0"}), "float": -0.0, "floatDecimal": -0.0, "real": -0.0,
    }),
    Value("double 2^63", 2.0**63, {
        **fraction(2.0**63, decimal=True),
    }),
    Value("double 1e18", 1e18, {
        **fraction(1e18, decimal=True, real=1e18), "big": 10**18, "bigText": 10**18, "digits": str(10**18),
    }),
    Value("double 1e34", 1e34, fraction(1e34, decimal=True, real=1e34)),
    Value("double 1e35", 1e35, fraction(1e35, decimal=False, real=1e35)),
    Value("double 0.5", 0.5, fraction(0.5, decimal=True, real=0.5, money=Decimal("0.5"))),
    Value("double 0.1+0.2", 0.1 + 0.2, fraction(0.1 + 0.2, decimal=True)),
    Value("double greatest", 1.7976931348623157e308, fraction(1.7976931348623157e308, decimal=False)),
    Value("double least", 5e-324, fraction(5e-324, decimal=False)),
    Value("double NaN", NAN, no_number(NAN, "NaN")),
    Value("double NaN with a payload", Element(1, b"\x01\0\0\0\0\0\xf8\xff"), no_number(NAN, "NaN")),
    Value("double Infinity", INFINITY, no_number(INFINITY, "Infinity")),
    Value("double -Infinity", -INFINITY, no_number(-INFINITY, "-Infinity")),
    decimal("0", double=0.0, **{k: v for k, v in whole(0).items() if k in ("int", "intWide", "intText", "big",
            "bigText", "digits", "small", "money")}),
    decimal("1.5", double=1.5, money=Decimal("1.5")),
    decimal("1.50", double=1.5, money=Decimal("1.5")),
    decimal("0.1", double=0.1, money=Decimal("0.1")),
    decimal("1234567890.12", double=1234567890.12),
    decimal("12345678.90", double=12345678.9, money=Decimal("12345678.9")),
    decimal("-0", double=-0.0, **{k: v for k, v in whole(0).items() if k in ("int", "intWide", "intText", "big",
            "bigText", "digits", "small", "money")}),
    decimal("9999999999999999999999999999999999"),
    decimal("0.000000000000000000000000000001", double=1e-30),
    decimal("1E-31", exact=False, double=1e-31),
    decimal("1E+34", double=1e34),
    decimal("1E+35", exact=False, double=1e35),
    decimal("9.999999999999999999999999999999999E+6144", exact=False),
    decimal("1E-6176", exact=False),
    decimal("NaN", exact=False, double=NAN),
    decimal("sNaN", exact=False, double=NAN),
    decimal("Infinity", exact=False, double=INFINITY),
    decimal("-Infinity", exact=False, double=-INFINITY),
]  # fmt: skip

TEXTS: Final = [
    text("empty", ""),
    text("one letter", "x"),
    text("of an enum", "SAD", mood="SAD"),
    text("of an enum, as the database has it", "serene"),
    text("of an enum whose label is another", "CALM", mood="CALM"),
    text("of an enum in lower case", "happy"),
    text("digits", "12", intText=12, bigText=12, decimalText=Decimal(12)),
    text("digits beyond 32 bits", "3000000000", bigText=3_000_000_000, decimalText=Decimal(3_000_000_000)),
    text("digits with a zero before", "007", intText=7, bigText=7, decimalText=Decimal(7)),
    text("a decimal", "1.50", decimalText=Decimal("1.5")),
    text("NaN", "NaN"),
    text("a date", "2026-01-02T12:30:15.678Z", atText=MIDDAY),
    text("a date in another zone", "2026-01-02T14:30:15.678+02:00", atText=MIDDAY),
    text("a uuid", UUID, uid=UUID),
    text("a uuid in upper case", UUID.upper()),
    text("an ObjectId", HEX),
    text("emoji", "🦊👩‍👩‍👧"),
    text("combining", "e\u0301\u0327"),
    text("composed", "\u1e1d"),
    text("right to left", "\u202eabc\u05d0"),
    text("no characters", "\ufffe\uffff\U0010ffff"),
    text("controls", "\x01\x1f\x7f\u0085\t\r\n"),
    text("quotes and braces", "'\"\\{},\\u0000 NULL"),
    text("blanks at the end", "ab "),
    replace(text("long", "é" * (LONG // 2)), only=frozenset({"text", "doc", "bytes"})),
    Value("text, NUL", "a\0b"),
    Value("text, no UTF-8", Element(2, string(b"\xff\xfe"))),
    Value("text, half of a pair", Element(2, string(b"\xed\xa0\x80"))),
    Value("symbol", Element(14, string(b"SAD")), text("", "SAD", mood="SAD").arrives),
]

DATES: Final = [
    date("a day", MIDNIGHT, "2026-01-02T00:00:00Z", second=MIDNIGHT, day=MIDNIGHT),
    date("milliseconds", MIDDAY, "2026-01-02T12:30:15.678Z"),
    date("1970", EPOCH, "1970-01-01T00:00:00Z", second=EPOCH, day=EPOCH),
    date("before 1970", EPOCH - timedelta(milliseconds=1), {"$numberLong": "-1"}),
    date("1582", datetime(1582, 10, 10, tzinfo=UTC), {"$numberLong": "-12219724800000"},
         second=datetime(1582, 10, 10, tzinfo=UTC), day=datetime(1582, 10, 10, tzinfo=UTC)),
    date("the first", EARLIEST, {"$numberLong": "-62135596800000"}, second=EARLIEST, day=EARLIEST),
    date("the last", LATEST, "9999-12-31T23:59:59.999Z"),
    far("the year 10000", 253402300800000),
    far("the year 0", -62135596800001),
    far("as late as can be", 2**63 - 1),
    far("as early as can be", -(2**63)),
    Value("timestamp", Timestamp(5, 0), {
        "bigStamp": 5 << 32, "atStamp": EPOCH + timedelta(seconds=5), **json({"$timestamp": {"t": 5, "i": 0}}),
    }),
    Value("timestamp with a count", Timestamp(2**31 - 1, 7), {
        "bigStamp": (2**31 - 1) << 32 | 7, "atStamp": EPOCH + timedelta(seconds=2**31 - 1),
        **json({"$timestamp": {"t": 2**31 - 1, "i": 7}}),
    }),
    Value("timestamp, greatest", Timestamp(2**32 - 1, 2**32 - 1), {
        "atStamp": EPOCH + timedelta(seconds=2**32 - 1), **json({"$timestamp": {"t": 2**32 - 1, "i": 2**32 - 1}}),
    }),
]  # fmt: skip

BYTES: Final = [
    binary("empty", b"", 0, ""),
    binary("bytes", b"\0\xff\\x41", 0, "AP9ceDQx"),
    replace(
        binary("long", b"\xa5" * 3 * (LONG // 3), 0, "paWl" * (LONG // 3)),
        only=frozenset({"text", "doc", "bytes"}),
    ),
    *(binary(f"of subtype {n}", b"\x01\x02\x03", n, "AQID") for n in (1, 2, 5, 6, 7, 8, 128, 255)),
    binary("uuid of old", UUID_BYTES, 3, "ABEiM0RVZneImaq7zN3u/w=="),
    binary("uuid", UUID_BYTES, 4, "ABEiM0RVZneImaq7zN3u/w==", uuid=UUID),
    binary("uuid cut short", UUID_BYTES[:3], 4, "ABEi"),
    Value("ObjectId", ObjectId(HEX), {"objectId": HEX, **json({"$oid": HEX})}),
]

OTHERS: Final = [
    Value("true", True, {"flag": True, **json(True)}),
    Value("false", False, {"flag": False, **json(False)}),
    in_json("regex", Regex("^a.*\\d$", "imsx"), {"$regularExpression": {"pattern": "^a.*\\d$", "options": "imsx"}}),
    in_json("regex, empty", Regex("", ""), {"$regularExpression": {"pattern": "", "options": ""}}),
    in_json("code", Code("return 1"), {"$code": "return 1"}),
    in_json("code with scope", Code("x", {"x": 1}), {"$code": "x", "$scope": {"x": 1}}),
    in_json("minKey", MinKey(), {"$minKey": 1}),
    in_json("maxKey", MaxKey(), {"$maxKey": 1}),
    in_json("reference", DBRef("a", ObjectId(HEX)), {"$ref": "a", "$id": {"$oid": HEX}}),
    in_json("reference with more", DBRef("a", 1, "db", {"x": 2}), {"$ref": "a", "$id": 1, "$db": "db", "x": 2}),
    in_json("pointer", Element(12, string(b"a") + ObjectId(HEX).binary), {"$ref": "a", "$id": {"$oid": HEX}}),
    in_json("object, empty", {}, {}),
    in_json("object of every type", EVERY_TYPE, {
        "s": "x", "i": 1, "l": long(2**60), "d": 0.5, "z": {"$numberDouble": "-0.0"}, "n": None, "b": False,
        "o": {"$oid": HEX}, "t": {"$date": "2026-01-02T00:00:00Z"}, "c": {"$numberDecimal": "1.50"},
        "r": {"$regularExpression": {"pattern": "^a", "options": "i"}},
        "bin": {"$binary": {"base64": "AP8=", "subType": "00"}}, "ts": {"$timestamp": {"t": 5, "i": 6}},
        "e": {}, "a": [[], {}],
    }),
    in_json("object with odd names", {"": 1, "a.b": {"$x": 2}, "0": 3, "é": 4}, {"": 1, "a.b": {"$x": 2}, "0": 3, "é": 4}),
    in_json("object in another order", {"b": 1, "a": 2}, {"a": 2, "b": 1}),
    in_json("object with a name twice", Element(3, raw(("a", 1), ("a", 2))), {"a": 2}),
    in_json("object with undefined", Element(3, raw(("a", Element(6, b"")))), {"a": None}),
    in_json("100 levels", {"a": nested(99)}, {"a": nested(99)}),
    Value("101 levels", {"a": nested(100)}, under="a" + ".0" * 99),
    Value("object like Extended JSON", {"a": {"$oid": HEX}}, under="a"),
    Value("object with NUL in it", {"a": ["b\0"]}, under="a.0"),
    Value("object with no UTF-8 in it", Element(3, raw(("a", Element(2, string(b"\xff"))))), under="a"),
]  # fmt: skip

VALUES: Final = [*NUMBERS, *TEXTS, *DATES, *BYTES, *OTHERS]
NOTHING: Final = {"null": None, "undefined": Element(6, b"")}
"""What stands for no value; a field that is missing is the third."""
