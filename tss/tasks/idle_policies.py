"""Tells once a day which policies have matched nothing for a day."""

from __future__ import annotations

from typing import NoReturn, Protocol

import structlog
import trio

from tss.core.idle_policies import IdlePolicies, Votes
from tss.core.ruleset import Ruleset
from tss.core.tally import Tally

log = structlog.get_logger()

LOOK_SECS = 60.0


class InForce(Protocol):
    """What is needed of the rulesets."""

    @property
    def current(self) -> Ruleset:
        """The newest ruleset."""


async def run(policies: IdlePolicies, rulesets: InForce, tally: Tally) -> NoReturn:
    """Until cancelled. The policies that are found stay in ``policies``, from where /health shows them."""
    while True:
        votes = {name: Votes(counts.evaluated, counts.matched) for name, counts in tally.policies.items()}
        found = policies.look(rulesets.current, votes, trio.current_time())
        if found:
            log.warning(
                "policies have matched nothing on this replica for a day: check their conditions with `tss explain`, or remove them",
                policies=found,
            )
        await trio.sleep(LOOK_SECS)
