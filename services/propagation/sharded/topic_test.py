"""A topic that was made is waited for."""

import asyncio

from libs.kafka.errors import TopicMissing
from services.propagation.sharded.topic import log_topic


class Found:
    name, id, partitions, compacted, kept_for_ever = "log", "7", 1, False, True


class Brokers:
    """Brokers that know a topic some time after one of them has made it."""

    def __init__(self):
        self.made, self.looks = [], 0

    async def describe(self, names):
        self.looks += 1
        if self.looks < 4:
            raise TopicMissing("there is no topic log")
        return dict.fromkeys(names, Found)

    async def create(self, name, partitions, replication, settings):
        self.made.append((name, partitions, replication, settings["retention.ms"]))

    async def cluster(self):
        return "c"


def test_brokers_that_do_not_know_yet_what_was_made_are_asked_again():
    brokers = Brokers()
    topic = asyncio.run(log_topic(brokers, "log", 1, 3))
    assert (topic.name, topic.identity) == ("log", b"c/7")
    assert (brokers.made, brokers.looks) == ([("log", 1, 3, "-1")], 4)
