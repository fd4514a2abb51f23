"""What is heard of revocations in other data centres, and up to when: whether a realm may be served by it.

Each data centre, the *origin* of what was revoked there, tells every moment up to which number its revocations go. Who
has all of them up to that number is as fresh as that word is old, by the clock of the origin; how far ahead of ours
that clock may be is part of the bound.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from services.session.domain.errors import DatacentreFenced, Resynchronising, Stale
from services.session.domain.origins_model import Fence, Heard
from services.session.domain.policy import SECOND, Partition, Policy

MAX_AHEAD_US: Final = SECOND
"""How far ahead of this server's clock another data centre's may be: what it says is not taken beyond that."""


class Listening:
    """Of one server, in the data centre `own`; `others` are those that it must hear."""

    def __init__(self, own: str, others: Iterable[str] = ()) -> None:
        self.own = own
        self.others = tuple(sorted(others))
        self.fences: dict[str, Fence] = {}
        self.apart: set[str] = set()
        self._heard_us: dict[str, int] = {}
        self._whole_us: dict[tuple[str, str], int] = {}
        self._behind: dict[str, frozenset[str]] = {}

    def take(self, heard: Heard, now_us: int) -> None:
        """Takes in what an origin said; what comes from a clock too far ahead is left out."""
        origin = heard.origin
        if heard.at_us > now_us + MAX_AHEAD_US:
            self.apart.add(origin)
            return
        self.apart.discard(origin)
        self.shut(heard.fences)
        for realm in heard.behind - self._behind.get(origin, frozenset()):
            self._whole_us[origin, realm] = self._heard_us.get(origin, 0)
        self._behind[origin] = heard.behind
        self._heard_us[origin] = max(heard.at_us, self._heard_us.get(origin, 0))

    def shut(self, fences: Mapping[str, Fence]) -> None:
        """Takes in who is shut out."""
        for datacentre, fence in fences.items():
            self.fences[datacentre] = max(fence, self.fences.get(datacentre, Fence(0, False)))

    def is_shut(self, datacentre: str) -> bool:
        """Whether a data centre is fenced."""
        return self.fences.get(datacentre, Fence(0, False)).shut

    def whole_us(self, origin: str, realm: str) -> int:
        """Up to when (microseconds of the origin's clock) all is here that the origin revoked in a realm; 0: never
        heard."""
        if realm in self._behind.get(origin, ()):
            return self._whole_us.get((origin, realm), 0)
        return self._heard_us.get(origin, 0)

    def wholeness(self, realm: str) -> dict[str, int]:
        """`whole_us` of each other data centre: how much of what they revoked whoever reads now has read."""
        return {origin: self.whole_us(origin, realm) for origin in self.others}

    def is_as_whole(self, realm: str, whole: Mapping[str, int], bound_us: int, behind_us: int, now_us: int) -> bool:
        """Whether what was read when so much was here (`wholeness`) may answer now: nothing that others revoked
        longer than the bound ago is missing in it, unless it is missing here as well, and it is `behind_us` at most
        behind what is known here."""
        for origin in self._expected():
            own_us = self.whole_us(origin, realm)
            if whole.get(origin, 0) < max(own_us - behind_us, min(own_us, now_us - bound_us)):
                return False
        return True

    def is_heard(self, origin: str, bound_us: int, now_us: int) -> bool:
        """Whether an origin said anything within a bound."""
        return now_us - self._heard_us.get(origin, 0) <= bound_us

    def staleness_us(self, realm: str, now_us: int) -> int:
        """How old the knowledge of a realm's revocations is at most, of those origins that are not shut out."""
        return max((max(0, now_us - self.whole_us(origin, realm)) for origin in self._expected()), default=0)

    def check(self, realm: str, policy: Policy, now_us: int) -> None:
        """Raises DatacentreFenced, Stale and Resynchronising when the realm is not to be served here now."""
        if self.is_shut(self.own):
            raise DatacentreFenced(f"the data centre {self.own!r} is shut out by its administrators", retry_after_s=5.0)
        for origin in self._expected():
            if now_us - self.whole_us(origin, realm) <= policy.revocation_bound_us:
                continue
            if policy.on_partition is Partition.FAIL_CLOSED:
                what = "is not heard: its clock is ahead" if origin in self.apart else "is not heard"
                raise Stale(f"what the data centre {origin!r} revoked {what}", retry_after_s=0.5)
            if self.is_heard(origin, policy.revocation_bound_us, now_us):
                raise Resynchronising(f"what {origin!r} revoked meanwhile is being taken in", retry_after_s=0.5)

    def _expected(self) -> list[str]:
        return [origin for origin in self.others if not self.is_shut(origin)]
