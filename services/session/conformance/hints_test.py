"""Hints of clients: kept only where asked, coarse, sealed, shorter than the session, and gone with their subject."""

import asyncio
import inspect

import pytest

from services.session.conformance.harness import QUICK, STORES, files, over, service
from services.session.conformance.verbs import step_up
from services.session.domain import hints
from services.session.domain.creating import Assurance, Client, create
from services.session.domain.model import HINTS
from services.session.domain.policy import DAY, HOUR
from services.session.domain.revoking import erase_subject
from services.session.store.embedded import EmbeddedStore

each = pytest.mark.parametrize("store", STORES)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0 secret-build"
KNOWN = {"network": "203.0.113.0/24", "agent": "Firefox on Linux"}


async def log_in(s, subject="alice", address="203.0.113.77", agent=FIREFOX):
    assurance = Assurance(1 if subject else 0, (), 0)
    return await create(s.tools, s.realm(), "app", subject, assurance, {}, {}, s.uuid(), Client(address, agent))


def test_ses_23_what_is_kept_is_a_coarse_class():
    assert hints.coarse("203.0.113.77", FIREFOX) == KNOWN
    assert hints.coarse("2001:db8:1:2:3::4", "")["network"] == "2001:db8:1::/48"
    assert hints.coarse("not an address", "curl/8") == {"agent": "other on other"}
    assert hints.coarse("", "") == {}
    phone = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605 Version/18.0 Mobile Safari/604.1"
    assert hints.coarse("", phone)["agent"] == "Safari on iOS"
    edge = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0"
    assert hints.coarse("", edge)["agent"] == "Edge on Windows"
    classes = len({name for _, name in hints.AGENTS}) + 1, len({name for _, name in hints.SYSTEMS}) + 1
    assert classes[0] * classes[1] < 64, "so few that nobody is told from others by it"


def test_ses_23_every_field_has_a_purpose_and_a_retention():
    rows = [line.split() for line in inspect.getdoc(hints).splitlines()]
    documented = {row[0]: row[-1] for row in rows if row and row[-1] == "hints_lifetime"}
    assert set(documented) == set(hints.FIELDS) == set(hints.coarse("192.0.2.1", FIREFOX))


@each
def test_ses_23_nothing_is_kept_unless_the_realm_asks(store):
    async def test(s):
        made = await log_in(s)
        assert not (await s.tools.store.read("web", made.session.handle, kinds=HINTS)).items
        await s.set_policy(keep_hints=True)
        assert await hints.of_session(s.tools, s.realm(), made.session) == {}
        made = await log_in(s)
        assert await hints.of_session(s.tools, s.realm(), made.session) == KNOWN
        await s.set_policy(keep_hints=False)
        assert await hints.of_session(s.tools, s.realm(), made.session) == {}

    over(store, test)


@each
def test_ses_23_hints_end_before_their_session_and_leave_the_store(store):
    async def test(s):
        await s.set_policy(keep_hints=True, hints_lifetime_us=HOUR)
        made = await log_in(s)
        await s.clock.sleep(3599)
        assert await hints.of_session(s.tools, s.realm(), made.session) == KNOWN
        await s.clock.sleep(2)
        assert await hints.of_session(s.tools, s.realm(), made.session) == {}
        await s.tools.store.prune(s.tools.clock.now_us(), 1000)
        assert not (await s.tools.store.read("web", made.session.handle, kinds=HINTS)).items
        await s.set_policy(keep_hints=True, hints_lifetime_us=DAY)
        made = await log_in(s)
        await s.clock.sleep(7200)
        await s.set_policy(keep_hints=True, hints_lifetime_us=HOUR)
        assert await hints.of_session(s.tools, s.realm(), made.session) == {}, "a shorter life counts at once"

    over(store, test)


@each
def test_ses_23_hints_of_a_visitor_go_with_the_login_and_with_the_subject(store):
    async def test(s):
        await s.set_policy(keep_hints=True)
        visitor = await log_in(s, subject="")
        assert await hints.of_session(s.tools, s.realm(), visitor.session) == KNOWN
        alice = (await step_up(s, visitor.token, subject="alice")).session
        assert await hints.of_session(s.tools, s.realm(), alice) == KNOWN
        await erase_subject(s.tools, s.realm(), "app", "alice")
        assert await hints.of_session(s.tools, s.realm(), alice) == {}

    over(store, test)


def test_ses_23_no_address_agent_or_hint_is_in_any_file(tmp_path):
    async def main():
        store = EmbeddedStore.open(tmp_path, QUICK)
        s = await service(store, keep_hints=True)
        for n in range(20):
            await log_in(s, subject=f"u{n}")
        await store.scrub()
        await store.close()

    asyncio.run(main())
    raw = files(tmp_path)
    for canary in (b"203.0.113", b"Firefox", b"secret-build", bytes([203, 0, 113])):
        assert canary not in raw
