"""How many replicas a read asks, by the namespace, by what it names and by the cookie that it brings."""

import pytest

from libs.cassandra.session import EACH_QUORUM, LOCAL_ONE, LOCAL_QUORUM, LOCAL_SERIAL, SERIAL
from services.storage.cassandra.cursor import Cursor, digest
from services.storage.cassandra.scope import read_level
from services.storage.domain.model import Mode
from services.storage.domain.namespace import Consistency, Namespace, Placement, Settings

EVENTUAL, LOCAL = Consistency.EVENTUAL, Consistency.LOCAL
STRONG_LOCAL, STRONG_GLOBAL = Consistency.STRONG_LOCAL, Consistency.STRONG_GLOBAL
HERE, ELSEWHERE = (Cursor(7, digest(name), 1, {}).encode() for name in ("dc1", "dc2"))


def space(home="", default=LOCAL, *, stamped=False):
    mode = Mode.LWW if stamped else Mode.CAS
    return Namespace(Settings("n", mode, default, Placement((), home)), 7, 0, stamped=stamped)


@pytest.mark.parametrize(
    ("asked", "without", "here", "elsewhere"),
    [
        (EVENTUAL, LOCAL_ONE, LOCAL_QUORUM, EACH_QUORUM),
        (LOCAL, LOCAL_QUORUM, LOCAL_QUORUM, EACH_QUORUM),
        (STRONG_LOCAL, SERIAL, SERIAL, SERIAL),
        (STRONG_GLOBAL, SERIAL, SERIAL, SERIAL),
    ],
)
def test_a_cookie_asks_for_what_it_takes_to_see_its_write(asked, without, here, elsewhere):
    assert [read_level(space(), "dc1", asked, seen) for seen in (b"", HERE, ELSEWHERE)] == [without, here, elsewhere]
    default = space(default=asked)
    assert [read_level(default, "dc1", None, seen) for seen in (b"", HERE, ELSEWHERE)] == [without, here, elsewhere]


@pytest.mark.parametrize("asked", [STRONG_LOCAL, STRONG_GLOBAL])
def test_at_home_a_strong_read_asks_the_home_alone(asked):
    assert read_level(space("dc1"), "dc1", asked) == LOCAL_SERIAL
    assert read_level(space("dc1"), "dc2", asked) == SERIAL


def test_what_is_decided_by_nobody_is_read_from_quorums():
    levels = [read_level(space(stamped=True), "dc1", asked) for asked in Consistency]
    assert levels == [LOCAL_ONE, LOCAL_QUORUM, LOCAL_QUORUM, EACH_QUORUM]
    for asked in Consistency:
        assert read_level(space(stamped=True), "dc1", asked, ELSEWHERE) == EACH_QUORUM
