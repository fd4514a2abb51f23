"""What happens to sessions, told to log and audit, and counted: handles only, never a token, a subject or a value."""

import logging
from typing import Final

from prometheus_client import CollectorRegistry, Counter

from libs.telemetry.logs import fields
from services.session.audit.file import AuditFile

log = logging.getLogger(__name__)

LEVELS: Final = {
    "session_theft": logging.WARNING,
    "subject_revoked": logging.INFO,
    "subject_erased": logging.INFO,
    "realm_revoked": logging.WARNING,
    "guess_limit": logging.WARNING,
    "anonymous_quota": logging.WARNING,
    "orphaned_branch": logging.WARNING,
    "sweep_put_off": logging.WARNING,
    "key_promoted": logging.WARNING,
    "key_retired": logging.WARNING,
}
"""Of those that an operator should see; what happens all the time is told at DEBUG."""
WORDS: Final = "said"
"""The fact that is a caller's own text: for the audit alone."""


class ToldEvents:
    """`domain.tools.Events` over the log, a counter by event and, once it is given, the audit."""

    audit: AuditFile | None = None

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counter = Counter("wellspring_session_events", "What happened to sessions", ["event"], registry=registry)
        self._counters: dict[str, Counter] = {}

    def record(self, what: str, realm: str, *, handle: str = "", caller: str = "", **facts: str | int) -> None:
        counter = self._counters.get(what)
        if counter is None:
            counter = self._counters[what] = self._counter.labels(what)
        counter.inc()
        level = LEVELS.get(what, logging.DEBUG)
        if log.isEnabledFor(level):
            told = {name: fact for name, fact in facts.items() if name != WORDS}
            log.log(level, what, extra=fields(realm=realm, handle=handle, caller=caller, **told))
        if self.audit is not None:
            self.audit.record(what, realm, handle, caller, facts)
