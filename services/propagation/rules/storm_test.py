"""Topics that fail as Kafka's do, under an engine that dies: messages that come twice, late, or out of order, sends
whose end is unknown, reads that fail for a while, and what a dead engine had on its way, which arrives after its
successor has begun. Every event has its effect, none has it twice, and none goes back."""

import asyncio
from random import Random

import pytest

from libs.kafka.errors import BrokersAway, DeliveryUnknown
from services.propagation.domain import listing
from services.propagation.rules import performing
from services.propagation.rules.changes import version_of
from services.propagation.rules.memory import MemoryTopics
from services.propagation.rules.testing.site import Stub, event, lives
from services.propagation.rules.topics import CHANGED
from services.propagation.store.memory_state import MemoryDisk

PAGES, EDITS, LIVES = 6, 60, 5
RULES = {
    "edits": {
        "topic": "edits",
        "exec": {
            "uri": "/sys/changes",
            "body": {"resource": "w/page/{{message.page}}", "version": "{{message.version}}"},
        },
    },
    "told": {
        "topic": CHANGED,
        "exec": {
            "uri": "/sys/queue/events",
            "body": {"meta": {"stream": "out", "uri": "{{message.resource}}"}, "version": "{{message.version}}"},
        },
    },
    "calls": {
        "topic": "out",
        "retry_limit": 100,
        "retry_delay": 1,
        "exec": {"method": "post", "uri": "http://127.0.0.1:PORT/{message.meta.id}", "body": "{{message.version}}"},
    },
}


class FailingTopics(MemoryTopics):
    """In `calm` nothing fails. `wrecks` are sends of engines that died: `wash_up` lets them arrive."""

    def __init__(self, names, rng):
        super().__init__(names)
        self.rng = rng
        self.calm = False
        self.wrecks = []

    def chance(self, share):
        return not self.calm and self.rng.random() < share

    async def publish(self, topic, event, hops=0):
        if self.chance(0.1):
            raise BrokersAway("no leader")
        if self.chance(0.1):
            # Its sender dies or gives up, and it arrives much later.
            self.wrecks.append((topic, event, hops))
            raise DeliveryUnknown("not acknowledged in time")
        await super().publish(topic, event, hops)
        if self.chance(0.1):
            raise DeliveryUnknown("not acknowledged in time")
        if self.chance(0.1):
            await super().publish(topic, event, hops)

    async def read(self, stream, after, limit):
        if self.chance(0.05):
            raise BrokersAway("no leader")
        return await super().read(stream, after, 1 + self.rng.randrange(limit))

    async def wash_up(self):
        wrecks, self.wrecks = self.wrecks, []
        self.rng.shuffle(wrecks)
        for topic, late, hops in wrecks:
            await super().publish(topic, late, hops)


def edit(number, rng):
    name = rng.randrange(PAGES)
    return event("edits", uri=f"w/{name}", page=f"P{name}", version=number + 1)


@pytest.mark.parametrize("seed", range(8))
def test_every_event_has_its_effect_once_whatever_fails(seed, monkeypatch):
    print("seed", seed)
    monkeypatch.setattr(performing, "SINK_RETRY_S", 0.01)
    rng = Random(seed)
    edits = [edit(number, rng) for number in range(EDITS)]
    for number, one in enumerate(edits):
        one["meta"]["id"] = f"edit-{number}"
    # Out of order, and a third of them twice.
    sent = edits + rng.sample(edits, EDITS // 3)
    rng.shuffle(sent)

    async def main():
        topics, stub, disk = FailingTopics(["edits", "out"], rng), Stub(), MemoryDisk()
        async with lives(disk, topics, stub) as opened:
            site = await opened()
            await site.put(RULES)
            parts = [sent[at::LIVES] for at in range(LIVES)]
            for part in parts:
                for one in part:
                    await topics.put("edits", one)
                    stub.answers += [rng.choice((200, 200, 503))]
                await asyncio.sleep(rng.uniform(0, 0.05))
                site = await opened()  # what was not durable is lost
                await topics.wash_up()
            topics.calm = True
            await topics.wash_up()
            await site.idle()
            assert not site.letters()
            check(site, topics, stub)

    def check(site, topics, stub):
        accepted = list(listing.accepted_after(site.engine.shard, 0, 10_000))
        newest = {f"w/page/{one['page']}": one["version"] for one in edits}  # the last of each page is its newest
        found = {}
        for one in accepted:
            before = found.get(one.change.resource, b"")
            found[one.change.resource] = max(before, one.change.version)
        assert found == {name: version_of(version, "") for name, version in newest.items()}
        assert len({one.change.id for one in accepted}) == len(accepted), "a change has its effect once"
        assert {one.change.id for one in accepted} == {f"edits/edit-{number}" for number in range(EDITS)}
        told = [held.event for held in topics.held["out"]]
        ids = {one["meta"]["id"] for one in told}
        assert len(ids) == EDITS, "sent again, an event has the same id"
        assert {path.strip("/") for path in stub.paths} == ids

    asyncio.run(main())
