"""Names for what is proposed: of models, fields, enums and entities, as Prisma and its Python client accept them."""

from __future__ import annotations

import re
from collections.abc import Collection
from keyword import iskeyword
from typing import Final

from pydantic import BaseModel

_ALIASES: Final = frozenset(
    {
        "prisma",
        "startswith",
        "has_every",
        "endswith",
        "has_some",
        "is_empty",
        "order_by",
        "not_in",
        "is_not",
        "connect_or_create",
    }
)
"""What the Python client keeps for itself."""

_SCALARS: Final = frozenset(
    {
        "String",
        "Int",
        "BigInt",
        "Float",
        "Decimal",
        "Boolean",
        "DateTime",
        "Json",
        "Bytes",
        "Unsupported",
        "Prisma",
        "Client",
    }
)
_PLURALS: Final = (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh"))
_SINGULAR: Final = ("ss", "us", "is", "news")


def model_name(collection: str, taken: Collection[str]) -> str:
    """`nft_owners` -> `NftOwner`."""
    words = _words(_singular(collection))
    name = "".join(word[:1].upper() + word[1:] for word in words)
    name = name if name[:1].isalpha() else f"Collection{name}"
    if name in _SCALARS or iskeyword(name) or iskeyword(name.lower()):
        name += "Document"
    return _free(name, taken)


def entity_name(collection: str, taken: Collection[str]) -> str:
    """`nftOwners` -> `nft_owner`."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", "_".join(_words(_singular(collection)))).lower()
    return _free(snake if snake[:1].isalpha() else f"collection_{snake}".rstrip("_"), taken)


def field_name(key: str, taken: Collection[str]) -> str:
    """The key itself where it can be; otherwise its words, in camel case."""
    name = key
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", key):
        first, *rest = _words(key) or ["field"]
        name = "".join([first, *(word[:1].upper() + word[1:] for word in rest)])
        name = name if name[:1].isalpha() else f"field{name}"
    if hasattr(BaseModel, name) or iskeyword(name) or name in _ALIASES or name.startswith("model_"):
        name += "Value"
    return _free(name, taken)


def enum_name(model: str, field: str, taken: Collection[str]) -> str:
    return _free(model + field[:1].upper() + field[1:], taken)


def _words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z0-9]+", text)


def _singular(text: str) -> str:
    for plural, singular in _PLURALS:
        if text.lower().endswith(plural) and len(text) > len(plural) + 1:
            return text[: -len(plural)] + singular
    return text[:-1] if text.lower().endswith("s") and not text.lower().endswith(_SINGULAR) and len(text) > 2 else text


def _free(name: str, taken: Collection[str]) -> str:
    if name not in taken:
        return name
    return next(f"{name}{number}" for number in range(2, len(taken) + 3) if f"{name}{number}" not in taken)
