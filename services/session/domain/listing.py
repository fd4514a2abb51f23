"""What sessions does a subject have? Those that live, oldest first, a page at a time."""

from typing import NamedTuple

from services.session.crypto import pseudonyms
from services.session.domain.model import Session
from services.session.domain.realms import Realm
from services.session.domain.tools import Tools


class Listed(NamedTuple):
    """A page, and where the next one begins (None at the end)."""

    sessions: list[Session]
    resume: bytes | None


async def by_subject(tools: Tools, realm: Realm, subject: str, after: bytes | None, size: int) -> Listed:
    """Live sessions of a subject; a page may be short, or empty, and yet not the last."""
    who = pseudonyms.pseudonym(tools.keyring, realm.name, subject)
    page = await tools.store.by_subject(realm.name, who, after=after, limit=size)
    now_us = tools.clock.now_us()
    live = [s.session for s in page.found if s.session is not None and realm.judge(s, now_us).live]
    return Listed(live, page.resume)
