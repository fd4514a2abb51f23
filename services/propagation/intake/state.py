"""What is known of each followed namespace, for operators."""

from dataclasses import dataclass


@dataclass(slots=True)
class FollowerState:
    """`resume_token` is the durable cursor; `error` says why nothing comes, empty while all is well.

    `changes` were taken since the start; `skipped` are records whose names no resource may have.
    """

    namespace: str
    resume_token: str = ""
    last_event_ns: int = 0
    error: str = ""
    changes: int = 0
    skipped: int = 0
