"""The Prisma schema that a configuration is checked against."""

from adapters.schema import Field, Model, Relation, Schema

__all__ = ["Field", "Model", "Relation", "Schema"]
