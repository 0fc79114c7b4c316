"""The fence of a settle on PostgreSQL: the first statement of its transaction, and how those after it know what has passed.

What has passed stays so until the transaction ends, since its fences are locked. It is kept as a setting of the transaction
rather than looked up again: so no plan depends on how many fences there are, or were when it was made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from adapters.engine import Call
from adapters.side import Key

# The gate comes first, as a condition that no row is looked at before: it locks the entity's term, or ends the transaction.
# From there to the end nobody can turn the entity. A settle that is sent again passes as it did before.
_RAISE: Final = (
    'WITH raised AS (INSERT INTO "strangler_fence" AS f ("entity", "key", "token")'
    " SELECT $1, k, $2::text::bigint FROM json_array_elements_text($3::text::json) k"
    ' WHERE (SELECT "strangler_gate"($1, $4::text::bigint)) ORDER BY k'
    ' ON CONFLICT ("entity", "key") DO UPDATE SET "token" = excluded."token" WHERE f."token" <= excluded."token"'
    ' RETURNING f."key")'
    """ SELECT set_config('strangler.passed', coalesce(json_agg("key"), '[]')::text, true) AS "passed" FROM raised"""
)


def raise_fences(entity: str, term: int, token: int, keys: Sequence[Key]) -> Call:
    """Raise the fences that are below the token, and lock them. It fails as Stale where the entity is at another term."""
    return Call.query_raw(_RAISE, entity, str(token), orjson.dumps(keys).decode(), str(term))


def passed_keys(answer: Sequence[Mapping[str, Any]]) -> frozenset[Key]:
    """Those that the fences have let through: `answer` is that to `raise_fences`."""
    [row] = answer
    return frozenset(orjson.loads(row["passed"]))


def passed(key: str) -> str:
    """SQL for a later statement of the same transaction: whether this key has passed."""
    return f"{key} IN (SELECT json_array_elements_text(current_setting('strangler.passed')::json))"
