"""Whether a session lives: computed at every read from what is stored, so that no write can make a dead one live."""

from enum import StrEnum
from typing import NamedTuple

from services.session.domain.epochs import is_below
from services.session.domain.model import Epoch, Session, Tombstone
from services.session.domain.policy import Policy


class State(StrEnum):
    """The words of SessionAdmin.InspectSession."""

    LIVE = "live"
    IDLE_EXPIRED = "idle_expired"
    ABSOLUTE_EXPIRED = "absolute_expired"
    REVOKED = "revoked"
    SUBJECT_REVOKED = "subject_revoked"
    REALM_REVOKED = "realm_revoked"
    ABSENT = "absent"


class Verdict(NamedTuple):
    """A state and since when it holds (microseconds; of a live session since its creation; 0 when it is not known)."""

    state: State
    since_us: int

    @property
    def live(self) -> bool:
        return self.state is State.LIVE

    @property
    def revoked(self) -> bool:
        """Whether nothing that is read elsewhere or later could say otherwise."""
        return self.state in (State.REVOKED, State.SUBJECT_REVOKED, State.REALM_REVOKED)


def ends_us(session: Session, policy: Policy) -> tuple[int, int]:
    """The absolute end, and the end unless there is activity, which is never past it. A policy made shorter counts at
    once; one made longer moves no session that is there."""
    timeouts = policy.of_level(session.level)
    absolute_us = min(session.ends_us, session.auth_us + timeouts.absolute_us)
    return absolute_us, min(session.active_us + min(session.idle_us, timeouts.idle_us), absolute_us)


def judge(
    session: Session | None,
    policy: Policy,
    realm_epoch: Epoch,
    subject_epoch: Epoch,
    tombstone: Tombstone | None,
    now_us: int,
) -> Verdict:
    """What the session is now. A revocation outweighs an expiry, whichever came first."""
    if tombstone is not None:
        return Verdict(State.REVOKED, tombstone.at_us)
    if session is None:
        return Verdict(State.ABSENT, 0)
    if is_below(session.subject_stamp, subject_epoch):
        return Verdict(State.SUBJECT_REVOKED, subject_epoch.raised_us)
    if is_below(session.stamp, realm_epoch):
        return Verdict(State.REALM_REVOKED, realm_epoch.raised_us)
    absolute_us, idle_us = ends_us(session, policy)
    if now_us >= absolute_us:
        return Verdict(State.ABSOLUTE_EXPIRED, absolute_us)
    if now_us >= idle_us:
        return Verdict(State.IDLE_EXPIRED, idle_us)
    return Verdict(State.LIVE, session.created_us)
