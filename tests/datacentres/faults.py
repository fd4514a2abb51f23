"""What callers see of each fault, and how it heals: tests hold the table against real servers, and ``tables.py`` writes
it into the README of storage."""

from collections.abc import Sequence
from typing import Final, NamedTuple

NO_CONNECTION: Final = "UNAVAILABLE: no connection"
DEADLINE: Final = "DEADLINE_EXCEEDED"
_AWAY: Final = "test_each_consistency_with_a_data_centre_away_and_back"


class Fault(NamedTuple):
    """A row. ``saw``: the failures that callers see, none when they go on. ``test`` is the function that plays it."""

    what: str
    saw: Sequence[str]
    healed: str
    test: str

    def line(self) -> str:
        """The row in the README."""
        saw = ", ".join(f"`{reason}`" for reason in self.saw) if self.saw else "nothing: writes and reads went on"
        return f"| {self.what} | {saw} | {self.healed} |"


SERVER_KILLED: Final = Fault(
    "a server killed (`kill -9`)",
    (NO_CONNECTION,),
    "by its restart, or another server at once: the same token sent again, each write is there once",
    "test_a_server_killed",
)
ANSWERS_LOST: Final = Fault(
    "answers lost (the caller gave up first)",
    (DEADLINE,),
    "the same token sent again: `APPLIED` or `REPEATED`, and written once",
    "test_answers_lost",
)
DISK_FULL: Final = Fault(
    "the disk full (embedded)",
    ("DISK_FULL", "STORE_UNAVAILABLE"),
    "with room again, by a restart: all that was acknowledged is there, and writes go on",
    "test_the_disk_full",
)
FAULTS: Final = (
    SERVER_KILLED,
    Fault(
        "all nodes of a data centre stopped (`SIGSTOP`) or killed, its own callers",
        ("UNAVAILABLE",),
        "by itself when they are back, with all that was acknowledged; the same token sent again",
        _AWAY,
    ),
    Fault(
        "another data centre stopped or killed, callers of an LWW namespace, or of a CAS one at home here",
        (),
        "what was written meanwhile went there by itself when it was back, and both read the same",
        _AWAY,
    ),
    Fault(
        "another data centre stopped or killed, writers of a CAS namespace without a home",
        ("UNAVAILABLE",),
        "by itself when it was back; the same token sent again was written once",
        _AWAY,
    ),
    Fault(
        "the node killed that had just acknowledged a write, before another data centre had it",
        ("UNAVAILABLE",),
        "it was there when the node was back; a read with its cookie brought it to the other data centre, too",
        "test_what_was_acknowledged_before_its_node_was_killed_is_seen_by_who_brings_its_cookie",
    ),
    Fault(
        "the link between the data centres cut, callers in both of an LWW namespace, and of a CAS one at its home",
        (),
        "what was written on either side went to the other by itself; feeds told all, each record's in order",
        "test_both_data_centres_go_on_while_the_link_between_them_is_cut",
    ),
    ANSWERS_LOST,
    DISK_FULL,
)


def table() -> str:
    """The table as the README has it."""
    head = ["| fault | callers saw | how it healed |", "|---|---|---|"]
    return "\n".join([*head, *(fault.line() for fault in FAULTS)]) + "\n"
