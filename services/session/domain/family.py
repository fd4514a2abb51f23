"""The tokens of one session: which are good, which were, and what a rotation makes of them. Pure.

A rotation gives the session a child token; its siblings get a short grace for requests in flight, or none. A parent in
its grace may have several children (two tabs rotated at once): all are good until one of them rotates, then the others
get their grace, after which their use means that somebody holds a copy: theft.
"""

from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import Final, NamedTuple

from services.session.domain.model import OldToken, Retry, Session, TokenRecord

MAX_CURRENT: Final = 4
"""Children of one parent that are good at once; one more puts the eldest into its grace."""
MAX_GRACE: Final = 8
"""Tokens in their grace at once; one more ends the eldest's."""
MAX_OLD: Final = 32
"""Tokens of before that are remembered, to notice a replay."""
_HALF: Final = 16

Check = Callable[[int, bytes], bool]
"""Whether the token presented has, under a pepper of this number, a verifier that begins so: in constant time."""


class Standing(Enum):
    """`REPLACED`: not good any more, and its use no theft yet. `REFUSED`: nothing is known of it."""

    CURRENT = "current"
    GRACE = "grace"
    REPLACED = "replaced"
    REFUSED = "refused"
    STOLEN = "stolen"


class Presented(NamedTuple):
    """How a token stands in its family, and its record while it is good."""

    standing: Standing
    record: TokenRecord | None


def present(session: Session, check: Check, now_us: int) -> Presented:
    """Looks at every token that is known, whichever matches, so that time tells nothing."""
    found: TokenRecord | None = None
    alarm_us = 0
    for record in session.tokens:
        if check(record.pepper, record.verifier):
            found = record
    for old in session.old:
        if check(old.pepper, old.half):
            alarm_us = old.alarm_us
    if found is not None:
        if found.dies_us == 0:
            return Presented(Standing.CURRENT, found)
        return Presented(Standing.GRACE, found) if now_us < found.dies_us else Presented(Standing.STOLEN, None)
    if not alarm_us:
        return Presented(Standing.REFUSED, None)
    return Presented(Standing.STOLEN if alarm_us <= now_us else Standing.REPLACED, None)


def retried(session: Session, request: bytes, check: Check, now_us: int) -> Retry | None:
    """The rotation that is asked for again, if this is that request, by the same parent, in time, and nobody has gone
    on from the child yet."""
    retry = session.retry
    if retry is None or retry.request != request or now_us >= retry.until_us or not check(retry.pepper, retry.parent):
        return None
    waiting = any(record.verifier == retry.child and record.dies_us == 0 for record in session.tokens)
    return retry if waiting else None


def rotated(session: Session, parent: TokenRecord, child: TokenRecord, now_us: int, grace_us: int) -> Session:
    """After a periodic rotation: the child is good, its parent's siblings and the parent have their grace."""
    first = parent.dies_us == 0
    tokens = [
        record._replace(dies_us=now_us + grace_us) if first and record.dies_us == 0 else record
        for record in session.tokens
    ]
    return _tidied(session, [*tokens, child], now_us, grace_us)


def replaced(session: Session, child: TokenRecord, now_us: int, notice_us: int) -> Session:
    """After a login or step-up: only the child is good. Requests in flight with the others are refused; from
    `notice_us` on such a request means theft."""
    old = [OldToken(r.pepper, r.verifier[:_HALF], _alarm(r, now_us, now_us + notice_us)) for r in session.tokens]
    return replace(session, tokens=(child,), old=(*session.old, *old)[-MAX_OLD:])


def minted_again(session: Session, retry: Retry, child: TokenRecord) -> Session:
    """The child that nobody received is forgotten as if it had never been; another takes its place."""
    tokens = tuple(child if record.verifier == retry.child else record for record in session.tokens)
    return replace(session, tokens=tokens, retry=retry._replace(child=child.verifier))


def _alarm(record: TokenRecord, now_us: int, notice_us: int) -> int:
    died = 0 < record.dies_us <= now_us
    return record.dies_us if died else notice_us


def _tidied(session: Session, tokens: list[TokenRecord], now_us: int, grace_us: int) -> Session:
    current = [record for record in tokens if record.dies_us == 0]
    for record in current[:-MAX_CURRENT]:
        tokens[tokens.index(record)] = record._replace(dies_us=now_us + grace_us)
    dead = [record for record in tokens if 0 < record.dies_us <= now_us]
    grace = [record for record in tokens if record.dies_us > now_us]
    over = grace[:-MAX_GRACE]
    # Cut short, the grace of those over the limit still ends as it was told before anybody calls it theft.
    old = [OldToken(record.pepper, record.verifier[:_HALF], record.dies_us) for record in [*dead, *over]]
    kept = tuple(record for record in tokens if record not in dead and record not in over)
    return replace(session, tokens=kept, old=(*session.old, *old)[-MAX_OLD:])
