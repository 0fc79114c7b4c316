"""What an inspection found: of one collection, and of all."""

from __future__ import annotations

from dataclasses import dataclass, field

from adapters.mongo.catalogue import Listed
from proxy.migration.inspection.index_pairs import IndexPair
from proxy.migration.inspection.overlaps import Overlap
from proxy.migration.inspection.profile import Profile
from proxy.migration.inspection.questions import Questions
from proxy.migration.inspection.references import Reference
from proxy.migration.inspection.refusals import Refusals
from proxy.migration.inspection.uniques import Unique


@dataclass(frozen=True, slots=True)
class Proposed:
    """Texts for the schema and for the configuration; or why there are none."""

    model: str = ""
    config: str = ""
    why_not: str = ""


@dataclass(slots=True)
class Inspection:
    """One collection. `documents` it says it has, `read` were looked at: `all` of them, or else some by chance.

    `refusals` are those of the entity's model or, where `proposed` is there, of the proposed one. `notes`: what may be
    refused, though it need not be.
    """

    listed: Listed
    entity: str | None = None
    model: str | None = None
    documents: int = 0
    read: int = 0
    all: bool = True
    profile: Profile = field(default_factory=Profile)
    refusals: Refusals = field(default_factory=Refusals)
    uniques: list[Unique] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)
    indexes: tuple[IndexPair, ...] = ()
    overlaps: list[Overlap] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    proposed: Proposed | None = None
    questions: Questions = field(default_factory=Questions)

    @property
    def refused(self) -> bool:
        """There is something that a backfill would put into quarantine."""
        doubled, orphaned = any(one.documents for one in self.uniques), any(one.missing for one in self.references)
        return bool(self.refusals.documents) or doubled or orphaned

    @property
    def unknown(self) -> bool:
        """A store did not answer something."""
        return self.questions.any_failed


@dataclass(frozen=True, slots=True)
class Other:
    """A collection that no entity names and that was not looked into; its size, where that is known."""

    listed: Listed
    documents: int | None


@dataclass(slots=True)
class Inspected:
    """All that was asked for, and the collections that were not."""

    collections: list[Inspection] = field(default_factory=list)
    others: list[Other] = field(default_factory=list)
    questions: Questions = field(default_factory=Questions)

    @property
    def status(self) -> int:
        """1: something is there that a model cannot hold; 2: something could not be asked; 0: neither."""
        if any(one.refused for one in self.collections):
            return 1
        return 2 if self.questions.any_failed or any(one.unknown for one in self.collections) else 0
