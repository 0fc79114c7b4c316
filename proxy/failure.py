"""How a request that cannot be answered is answered: one JSON shape, one exception."""

from collections.abc import Mapping

import orjson
from aiohttp import web

# Reasons that promise that no byte of the request reached the upstream: the write it carried did not happen.
NEVER_SENT = frozenset({"upstream_unreachable", "upstream_connect_timeout", "upstream_busy"})


class Failure(Exception):
    """Raised where a request cannot go on; whoever is outermost answers it with `response()`.

    `status` is the HTTP status, `message` a sentence for people, `field` the part of the request that is wrong,
    `reason` a stable word for programs, `retry_after` whole seconds. With `close` the client's connection is not used
    again, because where its next request begins is uncertain.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        field: str | None = None,
        reason: str | None = None,
        retry_after: int | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.field = field
        self.reason = reason
        self.retry_after = retry_after
        self.close = close

    def response(self, request_id: str | None = None) -> web.Response:
        response = failure(
            self.status,
            self.message,
            field=self.field,
            reason=self.reason,
            request_id=request_id,
            retry_after=self.retry_after,
        )
        if self.close:
            response.force_close()
        return response


def failure(
    status: int,
    message: str,
    *,
    field: str | None = None,
    reason: str | None = None,
    request_id: str | None = None,
    retry_after: int | None = None,
) -> web.Response:
    """`{"success": false, "error": message, "field"?, "reason"?, "requestId"?}`, with `Retry-After` in seconds."""
    body: dict[str, str | bool] = {"success": False, "error": message}
    optional: Mapping[str, str | None] = {"field": field, "reason": reason, "requestId": request_id}
    body.update({name: value for name, value in optional.items() if value is not None})
    headers = {"Content-Type": "application/json"}
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    return web.Response(body=orjson.dumps(body), status=status, headers=headers)
