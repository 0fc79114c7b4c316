"""The tokens of Proxim8's clients."""

import time

import jwt


def bearer(secret: str, wallet: str, *, seconds: int = 86_400) -> str:
    """An Authorization header for the owner of this wallet."""
    token = jwt.encode({"wallet": {"address": wallet}, "exp": int(time.time()) + seconds}, secret, algorithm="HS256")
    return f"Bearer {token}"
