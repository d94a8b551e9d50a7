"""What replicas share through Redis: one link, with decisions, parked traces, force rules and policies on it."""

from __future__ import annotations

from contextlib import AsyncExitStack

import attrs
import structlog

from tss.core.force import Rulebook
from tss.core.health import Health
from tss.core.measures import Meter
from tss.edges.redis.decisions import RedisDecisions
from tss.edges.redis.documents import force_rules
from tss.edges.redis.link import RedisLink, open_link
from tss.edges.redis.parking import RedisParking
from tss.edges.redis.policies import RedisTexts, policy_history
from tss.edges.redis.takeover import ParkedTraces
from tss.settings import KafkaExporter, Settings
from tss.state.crew import Crew
from tss.state.documents import DocumentStore
from tss.state.sharing import Sharing
from tss.tasks.forcing import Forcing
from tss.tasks.reloading import Texts

log = structlog.get_logger()

# In addition to the longest trace: a weekend without an owner. After that, the partition is read from its floor again.
PARKED_SECS = 3 * 86_400


@attrs.frozen
class Fleet:
    """What is shared; empty without Redis."""

    sharing: Sharing | None = None
    parked: ParkedTraces | None = None
    forcing: Forcing | None = None  # a task that has yet to be started
    policy_history: DocumentStore | None = None
    policy_texts: Texts | None = None


async def open_fleet(
    settings: Settings, opened: AsyncExitStack, rulebook: Rulebook, meter: Meter, health: Health, crew: Crew
) -> Fleet:
    """Raises UnusableFile for a file that cannot be read. A Redis that is away is no error."""
    if not settings.redis.url:
        return Fleet()
    link = await opened.enter_async_context(
        open_link(settings.redis, settings.kafka.consumer_group, meter, health, crew.watch)
    )
    forcing = Forcing(rulebook, force_rules(link), meter) if settings.force_sampling.admin_token else None
    return Fleet(
        _sharing(settings, link), _parked(settings, link, meter), forcing, policy_history(link), RedisTexts(link)
    )


def _sharing(settings: Settings, link: RedisLink) -> Sharing:
    ttl_secs, remembers_dropped = settings.redis.decision_ttl_secs, settings.redis.remember_dropped
    return Sharing(RedisDecisions(link, ttl_secs, remember_dropped=remembers_dropped), ttl_secs, remembers_dropped)


def _parked(settings: Settings, link: RedisLink, meter: Meter) -> ParkedTraces | None:
    """None in a rehearsal, since what is not committed cannot be forgotten by Kafka anyway; and where traces go to an
    output topic, which tells offset by offset what it has: a parked trace has no offsets any more."""
    to_topic = any(isinstance(each, KafkaExporter) for each in settings.effective_exporters)
    if to_topic or not settings.kafka.enable_auto_commit:
        log.info("long-open traces are not parked", because="output topic" if to_topic else "kafka.enableAutoCommit")
        return None
    ttl_secs = PARKED_SECS + settings.longest_wait_secs
    return ParkedTraces(RedisParking(link, ttl_secs, settings.redis.max_parked_bytes), meter)
