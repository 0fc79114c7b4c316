"""Death at each step of a write's way, on either side, by the hook that only tests can set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from tests.faults.campaign import Campaign, Size
from tests.faults.result import Result, Say
from tests.faults.scene import Layout
from tests.faults.stretch import Ground, ground
from tests.faults.subjects import SUBJECTS
from tests.faults.workload import Load


@dataclass(frozen=True, slots=True)
class Way:
    """A way that writes take, and the steps that a replica reaches on it."""

    name: str
    layout: Layout
    steps: Sequence[str]


WAYS: Final = (
    # The old server writes, and the change stream is the record: there is no mark to leave or to clear.
    Way(
        "legacy",
        Layout(dict.fromkeys(SUBJECTS, "shadow"), steps=True),
        ("written", "held", "applied", "position_saved"),
    ),
    # The mark is left in the write's own transaction: there is no step between the two.
    Way("prisma", Layout(dict.fromkeys(SUBJECTS, "live"), steps=True), ("written", "held", "applied", "unmarked")),
    # Without change streams forwarded writes leave marks, at times without a key.
    Way(
        "standalone",
        Layout(dict.fromkeys(SUBJECTS, "shadow"), steps=True, standalone=True, limits={"write": "2s"}),
        ("marked", "written", "held", "applied", "unmarked"),
    ),
)
_LOAD: Final = Load(rate=90, clients=16)
_TIMES: Final = 20
_DEATHS_A_STRETCH: Final = 8


async def run(size: Size, rng: Random, result: Result, say: Say, broken: str | None) -> None:
    for way in size.staged(rng, WAYS):
        deaths = [step for step in way.steps for _ in range(size.of(_TIMES))]
        rng.shuffle(deaths)
        deaths = size.some(deaths)
        async with ground(replace(way.layout, broken=broken), rng, result) as here:
            while deaths:
                batch, deaths = deaths[:_DEATHS_A_STRETCH], deaths[_DEATHS_A_STRETCH:]
                async with here.load(_LOAD):
                    for step in batch:
                        await _die_at(here, way, step)
                    await here.scene.all_up()
                what = f"{way.name}: {', '.join(batch)}"
                verdict = await here.judged(what, patience=size.patience)
                say(f"steps {what}: {verdict}")
                if broken and not verdict.clean:
                    return


async def _die_at(here: Ground, way: Way, step: str) -> None:
    """The first replica to reach the step for the n-th time dies there. The other one, that may follow now, lives on."""
    scene = here.scene
    # The position is saved once a second: a few times more would only take longer.
    after = 1 if step == "position_saved" else here.rng.randint(1, 12)
    dead = await scene.control.death_at(step, after)
    for replica in scene.replicas:
        if replica.name in dead:
            await scene.replace(replica)
            here.result.scenarios[f"{way.name} {step}"] += 1


CAMPAIGN: Final = Campaign("steps", run, rules=("clear", "position"))
