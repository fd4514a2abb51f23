"""Any order of logins, logouts, rotations, cuts of the link and what is heard in between, over two data centres, one of
them with Redis in front: who was ended where one asks is refused there, and in the other one as soon as that has heard;
who was not is never told so."""

import asyncio
import contextlib
import os
import random

from services.session.conformance.datacentres import cut, played, whole
from services.session.conformance.datacentres_cached_test import before
from services.session.conformance.verbs import rotate, valid
from services.session.domain import revoking
from services.session.domain.errors import HomeUnreachable, SessionInvalid
from services.session.domain.policy import MINUTE, Partition
from tools.dev.servers.redis import Redis

SEED = int(os.environ.get("WELLSPRING_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
SUBJECTS = ("alice", "bob", "carol")
STEPS = 40


class Login:
    """A session as a test knows it: `ended` names the data centres that let it in no more; `open`: it may be over by a
    revocation of all that its home had not heard when it was made."""

    def __init__(self, made, subject):
        self.token, self.handle, self.subject = made.token, made.session.handle, subject
        self.ended = set()
        self.open = False


class Story:
    """Steps by chance, and what must hold after each."""

    def __init__(self, sites, rng):
        self.sites = {site.name: site for site in sites}
        self.rng = rng
        self.logins = []
        self.unheard = set()
        self.count = dict.fromkeys(("good", "refused", "away"), 0)

    async def step(self, linked):
        site = self.rng.choice(list(self.sites.values()))
        subject = self.rng.choice(SUBJECTS)
        one = self.rng.choice(self.logins) if self.logins else None
        what = self.rng.choice(["login"] * 3 + ["look"] * 8 + ["logout", "handle", "all", "rotate", "time", "tick"])
        if what == "login" or one is None:
            made = Login(await site.create(subject), subject)
            made.open = any(who == subject and where != site.name for where, who in self.unheard)
            self.logins.append(made)
        elif what == "look":
            await self.look(site, one)
        elif what == "logout":
            await revoking.revoke_token(site.tools, site.realm(), "app", one.token)
            one.ended.add(site.name)
        elif what == "handle" and linked:
            await revoking.revoke_handle(site.tools, site.realm(), "app", one.handle)
            one.ended.add(site.name)
        elif what == "all":
            await revoking.revoke_subject(site.tools, site.realm(), "app", subject)
            self.unheard.add((site.name, subject))
            for login in self.logins:
                if login.subject == subject:
                    login.ended.add(site.name)
        elif what == "rotate" and linked and not one.ended and not one.open:
            one.token = (await rotate(site, one.token)).token
            await self.look(site, one)
        elif what == "time":
            await site.clock.advance(self.rng.uniform(0, 60))
        elif what == "tick":
            await site.tick()

    async def look(self, site, one):
        """Twice: the second time it may be Redis that answers."""
        for _ in range(2):
            try:
                await valid(site, one.token)
                said = "good"
            except SessionInvalid:
                said = "refused"
            except HomeUnreachable:
                said = "away"
            self.count[said] += 1
            if site.name in one.ended:
                assert said != "good", f"good at {site.name}, where it was ended"
            elif not one.ended and not one.open:
                assert said != "refused", f"refused at {site.name}, and ended nowhere"

    async def heard(self):
        """The data centres reach each other, and each has all that the other one revoked."""
        east, west = self.sites.values()
        await whole(east, west)
        for one, other in ((east, west), (west, east)):
            await one.hears(other)
        self.unheard.clear()
        for one in self.logins:
            if one.ended:
                one.ended = set(self.sites)
            for site in self.sites.values():
                away = self.count["away"]
                await self.look(site, one)
                assert self.count["away"] == away, "nothing is away"


def test_ses_09_ses_10_ses_11_any_order_over_two_data_centres_revives_nobody_and_refuses_nobody():
    rng = random.Random(SEED)
    print(f"WELLSPRING_SEED={SEED}")
    with Redis() as redis:
        front = before(redis)

        async def story(east, west):
            told = Story((east, west), rng)
            for turn in range(5):
                link = cut() if turn % 2 else contextlib.nullcontext()
                with link:
                    for _ in range(STEPS):
                        await told.step(turn % 2 == 0)
                        await asyncio.sleep(0)
                await told.heard()
            assert told.count["good"] and told.count["refused"] and front.counted("hit"), told.count
            await front.cache.close()

        played(story, {"east": front}, on_partition=Partition.SERVE_LOCAL, revocation_bound_us=5 * MINUTE)
