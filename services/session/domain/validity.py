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


def absolute_end_us(session: Session, policy: Policy) -> int:
    """The absolute end. A policy made shorter counts at once; one made longer moves no session that is there."""
    return min(session.ends_us, session.auth_us + policy.of_level(session.level).absolute_us)


def idle_end_us(session: Session, policy: Policy) -> int:
    """The end unless there is activity: never past the absolute one. Of policies, as with the absolute end."""
    idle_us = min(session.idle_us, policy.of_level(session.level).idle_us)
    return min(session.active_us + idle_us, absolute_end_us(session, policy))


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
    if now_us >= (end := absolute_end_us(session, policy)):
        return Verdict(State.ABSOLUTE_EXPIRED, end)
    if now_us >= (end := idle_end_us(session, policy)):
        return Verdict(State.IDLE_EXPIRED, end)
    return Verdict(State.LIVE, session.created_us)
