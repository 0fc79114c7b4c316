"""What a verification says, while it runs and when it has ended: kept with the primary, read by the flip's guard."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.side import Flag, Key, Run, SideName, Store
from config.model import Config
from config.schema import Schema
from proxy.flags.stages import Meaning
from proxy.migration.run.keeping import SHAPE, SINCE, STARTED
from proxy.migration.run.shape import shape_of
from proxy.migration.verification.findings import Finding, Findings, Kind
from proxy.migration.verification.sample import FULL

NAME: Final = "verify"
"""The name of its runs."""
_FOUND: Final = "verification"
"""What in a run's detail is ours."""

Phase = Literal["forward", "backward", "again", "ended"]
"""Walking the primary; walking the secondary; looking again at what was found; all of it done."""


class Status(IntEnum):
    """The exit status of the command."""

    CLEAN = 0
    DIFFERENT = 1
    UNKNOWN = 2


def compared_shapes(config: Config, schema: Schema) -> dict[str, dict[str, str]]:
    """By entity: its shape, and what counts as the same."""
    return {name: shape_of(entity, schema, compare=True) for name, entity in config.entities.items()}


def shape_of_run(shape: Mapping[str, str], sample: float) -> dict[str, str]:
    """What a run of it holds for: the entity's shape, and a share of the keys."""
    return {**shape, ":sample": f"{sample:g} %"}


async def forget(store: Store, entity: str, who: str) -> None:
    """This store becomes the primary: what was verified while it was the primary before does not count, nor does what is
    being verified. Raises Unavailable."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    await store.runs.begin(Run(NAME, entity, who, done=True, detail={SHAPE: {}, STARTED: now, SINCE: now}))


def fingerprint(shape: Mapping[str, str]) -> str:
    """16 hex digits, the same in every process."""
    text = "\0".join(f"{name}\0{shape[name]}" for name in sorted(shape))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class Verification(BaseModel):
    """One run over one entity. `config` is the fingerprint of what it was compared under; `seconds` are those of work, also
    in the processes before this one; `looked` counts the keys that each side had in its order, `compared` those of which
    both documents were; `suspects` differ as far as is known, and have not been looked at closely yet; `agreed` were found
    to differ, and agreed in a later look; `unsaid` is why nothing of it counts."""

    model_config = ConfigDict(extra="forbid")

    entity: str
    primary: SideName
    stage: str
    term: int
    epoch: int
    config: str
    began: datetime
    ended: datetime | None = None
    sample: float = FULL
    resumed: int = 0
    seconds: float = 0.0
    phase: Phase = "forward"
    looked: dict[SideName, int] = Field(default={"legacy": 0, "prisma": 0})
    compared: int = 0
    suspects: list[Key] = Field(default_factory=list)
    findings: Findings = Field(default_factory=Findings)
    agreed: int = 0
    repaired: int = 0
    unsaid: str | None = None

    @classmethod
    def begun(cls, flag: Flag, meaning: Meaning, config: str, *, sample: float, at: datetime) -> Verification:
        return cls(
            entity=flag.entity,
            primary=meaning.primary,
            stage=flag.stage,
            term=flag.term,
            epoch=flag.epoch,
            config=config,
            sample=sample,
            began=at,
        )

    @classmethod
    def of(cls, run: Run) -> Verification | None:
        """What a run has kept so far. None: nothing yet, or nothing that this version understands."""
        try:
            return cls.model_validate(run.detail.get(_FOUND))
        except ValidationError:
            return None

    def detail(self) -> Mapping[str, Any]:
        """What a run keeps of it."""
        return {_FOUND: self.model_dump(mode="json")}

    @property
    def status(self) -> Status:
        """What differs counts more than what nobody could say. A run that compared nothing says nothing, but for two empty
        sides."""
        kinds = self.findings.counts().keys()
        if self.phase != "ended" or self.unsaid:
            return Status.UNKNOWN
        if kinds - {"unsettled"}:
            return Status.DIFFERENT
        if kinds or not (self.compared or self.is_empty):
            return Status.UNKNOWN
        return Status.CLEAN

    @property
    def is_empty(self) -> bool:
        """Neither side has any key."""
        return not any(self.looked.values())

    @property
    def is_full(self) -> bool:
        return self.sample >= FULL

    def counts(self) -> dict[str, int]:
        """What became of the keys, so far."""
        counts = {"compared": self.compared, "suspects": len(self.suspects), **self.findings.counts()}
        return counts | {"agreed": self.agreed, "repaired": self.repaired}

    def samples(self, most: int) -> list[Finding]:
        """Some of each kind."""
        by_kind: dict[Kind, list[Finding]] = {}
        for finding in self.findings.kept:
            by_kind.setdefault(finding.kind, []).append(finding)
        return [finding for kind in sorted(by_kind) for finding in by_kind[kind][:most]]

    def conclusion(self) -> str:
        """In one line, what it says."""
        counts = self.findings.counts()
        if self.unsaid:
            return f"could not say: {self.unsaid}"
        if self.phase != "ended":
            return "not ended"
        if counts:
            return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        if self.is_empty:
            return "both sides are empty"
        if not self.compared:
            return "could not say: nothing was compared"
        return f"{'all' if self.is_full else f'a sample of {self.sample:g} %,'} {self.compared} documents agree"

    def summary(self) -> dict[str, Any]:
        """What is told of it: everything but what only the next process needs, and no more findings than somebody reads."""
        told = self.model_dump(mode="json", exclude={"suspects", "findings", "phase"})
        return {
            **told,
            "stopped": self.phase != "ended",
            "status": self.status.name.lower(),
            "said": self.conclusion(),
            "documents": self.looked[self.primary],
            "seconds": round(self.seconds, 3),
            "found": self.findings.counts(),
            "findings": [finding.model_dump(mode="json", exclude_defaults=True) for finding in self.findings.kept],
        }
