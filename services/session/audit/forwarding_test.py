"""What is sent on is the whole chain, whatever fails and whoever is killed; and a topic that lacks or changes an entry
is told."""

import asyncio
import contextlib
import os
import random
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from libs.errors.errors import Unavailable
from services.session.audit.file import AuditFile
from services.session.audit.forwarding import Forwarder
from services.session.audit.verify import Chains, Report, keys_of
from services.session.crypto import assertions, keyring

RING = keyring.generate(0)
KEYS = keys_of(assertions.key_set(RING))
SEED = int(os.environ.get("WELLSPRING_SEED", "0")) or random.SystemRandom().randrange(2**32)


class Memory:
    """A topic that takes a part of a batch, and then fails, as often as it is told."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self.kept: list[tuple[str, bytes]] = []
        self.away = False
        self._chance = chance

    async def send(self, key, lines):
        if self.away:
            raise Unavailable("nobody is there")
        taken = len(lines)
        if self._chance is not None and self._chance.random() < 0.4:
            taken = self._chance.randrange(len(lines) + 1)
        self.kept += [(key, line) for line in lines[:taken]]
        await asyncio.sleep(0)
        if taken < len(lines):
            raise Unavailable("it went away")

    async def close(self):
        pass

    def report(self, **more) -> tuple[dict[str, Report], list[str]]:
        chains = Chains(KEYS, more.get("anchors", ()))
        for at, (key, line) in enumerate(self.kept):
            chains.line(key, line, f"t/0:{at}")
        return chains.reports, chains.missing


def opened(path: Path) -> AuditFile:
    return AuditFile(
        path / "audit", "dc1", lambda text: assertions.sign_bytes(RING, text), kept_for_s=86_400, largest=3000
    )


def sender(path: Path, audit: AuditFile, topic: Memory, most_bytes=1 << 30) -> Forwarder:
    return Forwarder(audit, path / "audit", "dc1", topic, most_bytes=most_bytes, registry=CollectorRegistry())


def fill(audit: AuditFile, count: int) -> None:
    for number in range(count):
        audit.record("session_created", "web", f"h{number}", "cn:app", {})


def only(topic: Memory) -> Report:
    reports, _ = topic.report()
    ((name, report),) = reports.items()
    assert name.startswith("dc1/")
    return report


def test_ses_22_every_entry_reaches_the_topic_in_order_over_failures_kills_and_an_old_note(tmp_path):
    print(f"WELLSPRING_SEED={SEED} repeats this")
    chance = random.Random(SEED)
    topic, note = Memory(chance), tmp_path / "audit.sent"

    async def life():
        audit = opened(tmp_path)
        one = sender(tmp_path, audit, topic)
        old = None
        for _ in range(chance.randrange(1, 12)):
            fill(audit, chance.randrange(40))
            if chance.random() < 0.3:
                audit.vouch()
            if chance.random() < 0.8:
                await audit.sync()
            with contextlib.suppress(Unavailable):
                await one.send_all()
            if note.exists() and chance.random() < 0.2:
                old = note.read_bytes()
        if old is not None:
            note.write_bytes(old)  # what was noted last is lost with the power
        os.close(audit._file)  # as a kill does

    async def end():
        audit = opened(tmp_path)
        one = sender(tmp_path, audit, topic)
        topic._chance = None
        await audit.close()
        await one.finish()
        return audit._place

    for _ in range(15):
        asyncio.run(life())
    place = asyncio.run(end())
    report = only(topic)
    assert report.problems == [] and (report.first, report.last) == (1, place.number)
    assert topic.report(anchors=[(place.number, place.hash)])[1] == []
    assert len(topic.kept) == place.number + report.repeats


def test_what_is_not_on_disk_is_not_sent(tmp_path):
    async def main():
        audit, topic = opened(tmp_path), Memory()
        one = sender(tmp_path, audit, topic)
        fill(audit, 3)
        await one.send_all()
        assert topic.kept == []
        await audit.sync()
        fill(audit, 3)
        await one.send_all()
        assert len(topic.kept) == 4  # with the opening
        await audit.close()
        await one.finish()
        assert only(topic).last == 8

    asyncio.run(main())


def test_a_topic_that_is_away_loses_nothing_and_is_told_when_too_much_waits(tmp_path):
    async def main():
        audit, topic = opened(tmp_path), Memory()
        one = sender(tmp_path, audit, topic, most_bytes=10_000)
        topic.away = True
        fill(audit, 10)
        await audit.sync()
        with pytest.raises(Unavailable):
            await one.send_all()
        await one.check()
        fill(audit, 200)
        await audit.sync()
        with pytest.raises(Unavailable):
            await one.send_all()
        with pytest.raises(Unavailable, match="10000 may wait"):
            await one.check()
        for old in tmp_path.glob("audit.0*"):
            os.utime(old, (0, 0))
        audit._remove_old()
        topic.away = False
        await one.send_all()
        await one.check()
        assert only(topic).problems == [] and only(topic).last == 211
        count = len(list(tmp_path.glob("audit.0*")))
        audit._remove_old()
        assert count > 3 and list(tmp_path.glob("audit.0*")) == []
        await audit.close()
        await one.finish()

    asyncio.run(main())


def test_files_that_were_moved_away_begin_another_chain(tmp_path):
    async def main():
        topic = Memory()
        for _ in range(2):
            audit = opened(tmp_path)
            one = sender(tmp_path, audit, topic)
            fill(audit, 5)
            await audit.close()
            await one.finish()
            for path in [*tmp_path.glob("audit.0*"), tmp_path / "audit"]:
                path.unlink()
        reports, _ = topic.report()
        assert len(reports) == 2 and all(report.whole and report.first == 1 for report in reports.values())

    asyncio.run(main())


def test_a_note_that_is_damaged_sends_all_again_as_another_chain(tmp_path):
    async def main():
        topic = Memory()
        for _ in range(2):
            audit = opened(tmp_path)
            one = sender(tmp_path, audit, topic)
            fill(audit, 5)
            await audit.close()
            await one.finish()
            (tmp_path / "audit.sent").write_text("nonsense")
        reports, _ = topic.report()
        assert sorted(report.last for report in reports.values()) == [7, 14]
        assert all(report.whole and report.first == 1 for report in reports.values())

    asyncio.run(main())


def test_ses_22_every_change_of_the_topic_is_found(tmp_path):
    async def main():
        audit, topic = opened(tmp_path), Memory()
        one = sender(tmp_path, audit, topic)
        fill(audit, 20)
        audit.vouch()
        fill(audit, 5)
        await audit.close()
        await one.finish()
        return topic, audit._place

    topic, place = asyncio.run(main())
    good = topic.kept
    name = good[0][0]
    assert only(topic).whole and only(topic).vouched == place.number - 1
    changed = [
        [*good[:5], *good[6:]],
        [*good[:5], good[6], good[5], *good[7:]],
        [*good[:5], (name, good[5][1].replace(b'"h4"', b'"h9"')), *good[6:]],
        [*good[:5], (name, b"nonsense"), *good[5:]],
        [*good[:5], (name, good[5][1].replace(b'"h4"', b'"h9"')), *good[5:]],
    ]
    for kept in changed:
        topic.kept = kept
        assert not only(topic).whole, kept
    topic.kept = good[:-3]
    assert only(topic).whole  # nothing inside of the topic can tell
    assert "in none of the chains" in topic.report(anchors=[(place.number, place.hash)])[1][0]
    topic.kept = [*good[:10], *good[4:]]  # what comes again is none
    assert only(topic).whole and only(topic).repeats == 6
