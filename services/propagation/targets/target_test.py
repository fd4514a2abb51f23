"""Who of those that wait for a target is started, on a virtual clock."""

import asyncio

from libs.clock.virtual import VirtualClock
from services.propagation.targets.exchange import Exchange
from services.propagation.targets.targets import Targets

URL = "http://target.test"


class Sender:
    """Notes what is sent; the test ends it."""

    def __init__(self, settings, ended):
        self.ended = ended
        self.sent = []

    def send(self, exchanges):
        self.sent += exchanges

    def abort(self, exchange):
        """Nothing is under way."""

    async def close(self):
        """Nothing is held."""


def asked(tag, ended=None):
    return Exchange(b"", (ended or (lambda exchange: None)), timeout_s=5.0, max_body_bytes=1, tag=tag)


def played(test):
    async def main():
        senders = []

        def make(settings, ended):
            senders.append(Sender(settings, ended))
            return senders[-1]

        targets = Targets(make_sender=make)
        target = targets.of_url(URL)
        test(targets, target, senders[0])
        await asyncio.sleep(0)
        await targets.close()

    VirtualClock().run(main())


def tags(sender):
    return [exchange.tag for exchange in sender.sent]


def end(sender, exchange):
    exchange.status = 200
    sender.ended([exchange])


def test_a_held_target_starts_what_is_first_and_what_does_not_yield():
    def test(targets, target, sender):
        renders, calls = target.lane(100, yields=True), target.lane(100)
        targets.hold(True)
        renders.submit(asked(1), asked(2))
        assert tags(sender) == []
        calls.submit(asked(3))
        renders.submit(asked(4), asked(5), first=True)
        assert sorted(tags(sender)) == [3, 4, 5]
        for exchange in list(sender.sent):
            end(sender, exchange)
        assert sorted(tags(sender)) == [3, 4, 5]
        targets.hold(False)
        assert sorted(tags(sender)) == [1, 2, 3, 4, 5]

    played(test)


def test_what_runs_when_a_target_is_held_ends_as_usual_and_nothing_follows_it():
    def test(targets, target, sender):
        renders = target.lane(2, yields=True)
        ended = []
        renders.submit(*(asked(tag, lambda exchange: ended.append(exchange.tag)) for tag in range(4)))
        targets.hold(True)
        end(sender, sender.sent[0])
        assert ended == [0] and tags(sender) == [0, 1]
        renders.submit(asked(9), first=True)
        assert tags(sender) == [0, 1, 9]
        targets.hold(False)
        end(sender, sender.sent[1])
        end(sender, sender.sent[2])
        assert tags(sender) == [0, 1, 9, 2, 3]

    played(test)


def test_a_target_that_is_first_asked_for_while_all_are_held_is_held_too():
    def test(targets, target, sender):
        targets.hold(True)
        other = targets.of_url("http://other.test")
        lane = other.lane(10, yields=True)
        lane.submit(asked(1))
        assert other.running == 0
        targets.hold(False)
        assert other.running == 1

    played(test)
