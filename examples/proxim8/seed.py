"""`npm run db:seed`: sample documents for the legacy database at MONGO_URL, so that inspect, backfill and verify have something
to show. Sown twice they are there once. A database that holds anything else in these collections is left alone, unless
`--anyway`."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

import pymongo
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, ConfigurationError, PyMongoError
from pymongo.uri_parser import parse_uri

from examples.proxim8.sample import FIRST_ID, LAST_ID, NO_ID, Document, Sample, samples

MISTAKE, FAILED = 2, 1
DUPLICATE = 11000
SECONDS = 60.0


class CannotSow(Exception):
    """One line: why, and what was expected."""


def main() -> int:
    """Exit status 0: they are there; 1: the database did not take them; 2: it is not to be sown."""
    parser = argparse.ArgumentParser(prog="db:seed", description="Sow sample documents into the database at MONGO_URL.")
    parser.add_argument("--videos", type=int, default=20, help="how many ordinary videos (20)")
    parser.add_argument("--anyway", action="store_true", help="beside whatever the collections hold")
    asked = parser.parse_args()
    try:
        with _client(os.environ.get("MONGO_URL", "")) as client:
            client.admin.command("ping")  # is not tried again: a server that is away is said soon
            with pymongo.timeout(SECONDS):
                sow(client, list(samples(max(asked.videos, 0))), anyway=asked.anyway)
    except CannotSow as error:
        return _say(str(error), MISTAKE)
    except PyMongoError as error:
        return _say(f"MongoDB did not take them ({type(error).__name__})", FAILED)
    return 0


def _client(url: str) -> MongoClient[Document]:
    """Raises CannotSow where the URL is none, or names no database."""
    try:
        named = parse_uri(url)["database"]
    except (ConfigurationError, ValueError):
        named = None
    if not named:
        raise CannotSow("MONGO_URL names no database; expected mongodb://host:port/database")
    return MongoClient(url, serverSelectionTimeoutMS=3000)


def sow(client: MongoClient[Document], sown: Sequence[Sample], *, anyway: bool) -> None:
    """Raises CannotSow before anything is written."""
    database = client.get_default_database()
    by_collection = {name: list(some) for name, some in groupby(sown, key=lambda sample: sample.collection)}
    if not anyway:
        for name in by_collection:
            _refuse_others(database[name])
    for name, some in by_collection.items():
        _sow(database[name], some)


def _refuse_others(collection: Collection[Document]) -> None:
    ours = [{"_id": {"$gte": FIRST_ID, "$lte": LAST_ID}}, {"_id": NO_ID}]
    if collection.find_one({"$nor": ours}, {"_id": 1}) is not None:
        raise CannotSow(f"{collection.name} holds documents that are no samples; expected none, or --anyway")


def _sow(collection: Collection[Document], some: Sequence[Sample]) -> None:
    new, left_out = len(some), Counter[str]()
    try:
        collection.insert_many([sample.document for sample in some], ordered=False)
    except BulkWriteError as error:
        for refused in error.details["writeErrors"]:
            if refused["code"] != DUPLICATE:
                raise
            left_out[", ".join(refused["keyPattern"])] += 1
        new -= left_out.total()
    there = left_out.pop("_id", 0)
    odd = [sample for sample in some if sample.why]
    print(f"{collection.name}: {new} new, {there} there already, {len(odd)} of {len(some)} awkward")
    for fields, count in left_out.items():
        print(f"  {count} left out: the collection has a unique index on {fields}")
    for sample in odd:
        fate = f"a backfill refuses it ({sample.refused.rstrip(': ')})" if sample.refused else "arrives"
        print(f"  {sample.document['_id']}: {sample.why}: {fate}")


def _say(line: str, status: int) -> int:
    sys.stderr.write(f"seed: {line}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
