"""The `prisma` package's own generated client, on our engine: see `client`."""

from adapters.client.seams import Observer, client

__all__ = ["Observer", "client"]
