"""Storage: namespaces of both modes, items, expiry, and the place in a change feed."""

import contextlib
import datetime

from tests.checks.check import Check, Site
from wellspring_client import Delete, Put
from wellspring_client.errors import ClockDrift, ConditionFailed

_SOON = datetime.timedelta(seconds=1)


class CompareAndSet(Check):
    """In a CAS namespace the etag that was answered is the one that counts, before and after."""

    def initialise(self, site: Site) -> None:
        site.client.storage.create_namespace("check-cas", mode="CAS", description="first")
        self.etag = site.client.storage.namespace("check-cas").put("counter", b"0", if_absent=True).etag

    def manipulate(self, site: Site, turn: int) -> None:
        records = site.client.storage.namespace("check-cas")
        old = self.etag
        self.etag = records.put("counter", str(turn).encode(), if_etag=old).etag
        try:
            records.put("counter", b"lost", if_etag=old)
        except ConditionFailed as error:
            assert error.etag == self.etag
        else:
            raise AssertionError("a spent etag was accepted")

    def validate(self, site: Site) -> None:
        found = site.client.storage.namespace("check-cas").get("counter")
        assert found is not None and (found.value, found.etag) == (b"2", self.etag)
        described = site.client.storage.get_namespace("check-cas")
        assert described.description == "first"


class LastWriteWins(Check):
    """In an LWW namespace the newest token's write is what is read; a repeated token changes nothing."""

    def initialise(self, site: Site) -> None:
        site.client.storage.create_namespace("check-lww", mode="LWW")
        records = site.client.storage.namespace("check-lww")
        self.old = records.new_token()
        self.version = records.put("a", b"0").version

    def manipulate(self, site: Site, turn: int) -> None:
        records = site.client.storage.namespace("check-lww")
        token = records.new_token()
        self.version = records.put("a", str(turn).encode(), token=token).version
        assert records.put("a", str(turn).encode(), token=token).version == self.version

    def validate(self, site: Site) -> None:
        records = site.client.storage.namespace("check-lww")
        with contextlib.suppress(ClockDrift):  # on a slow machine it comes too late to be looked at
            records.put("a", b"late", token=self.old)
        found = records.get("a")
        assert found is not None and (found.value, found.version) == (b"2", self.version)


class Items(Check):
    """A record of many items, changed as a whole or not at all."""

    def initialise(self, site: Site) -> None:
        site.client.storage.create_namespace("check-items")
        records = site.client.storage.namespace("check-items")
        records.mutate("record", [Put(b"0", key=f"k{n:03}") for n in range(100)])
        self.expected = {f"k{n:03}".encode(): b"0" for n in range(100)}

    def manipulate(self, site: Site, turn: int) -> None:
        records = site.client.storage.namespace("check-items")
        changed, gone = f"k{turn:03}", f"k{turn + 50:03}"
        records.mutate("record", [Put(str(turn).encode(), key=changed), Delete(keys=[gone])])
        self.expected[changed.encode()] = str(turn).encode()
        del self.expected[gone.encode()]

    def validate(self, site: Site) -> None:
        (record,) = site.client.storage.namespace("check-items").scan()
        assert {item.key: item.value for item in record.items} == self.expected


class Expiry(Check):
    """What has expired stays away, what has not stays there."""

    def initialise(self, site: Site) -> None:
        site.client.storage.create_namespace("check-ttl")
        records = site.client.storage.namespace("check-ttl")
        records.put("short", b"0", ttl=_SOON)
        records.put("long", b"0", ttl=datetime.timedelta(hours=1))

    def manipulate(self, site: Site, turn: int) -> None:
        records = site.client.storage.namespace("check-ttl")
        site.until(lambda: records.get("short") is None)
        records.put(f"short-{turn}", b"0", ttl=_SOON)

    def validate(self, site: Site) -> None:
        records = site.client.storage.namespace("check-ttl")
        site.until(lambda: records.get("short-2") is None)
        assert [record.key for record in records.scan()] == [b"long"]


class FeedPosition(Check):
    """A watch goes on exactly behind the answer whose resume token it brings."""

    def initialise(self, site: Site) -> None:
        site.client.storage.create_namespace("check-feed", mode="CAS")
        self.seen: list[bytes] = []
        self.token = ""
        self.written: list[bytes] = []
        self._write(site, 0)
        self._watch(site)

    def manipulate(self, site: Site, turn: int) -> None:
        self._write(site, turn)
        if turn == 1:  # Of the second turn's changes only the validation learns.
            self._watch(site)

    def validate(self, site: Site) -> None:
        if len(self.seen) < len(self.written):
            self._watch(site)
        assert self.seen == self.written

    def _write(self, site: Site, turn: int) -> None:
        for number in range(5):
            name = f"{turn}-{number}".encode()
            site.client.storage.namespace("check-feed").put(name, b"x")
            self.written.append(name)

    def _watch(self, site: Site) -> None:
        records = site.client.storage.namespace("check-feed")
        start = not self.token
        for answer in records.watch(resume_token=self.token, from_beginning=start, heartbeat=_SOON):
            self.seen += [event.record for event in answer.events]
            self.token = answer.resume_token
            if len(self.seen) >= len(self.written):
                return


CHECKS = (CompareAndSet, LastWriteWins, Items, Expiry, FeedPosition)
