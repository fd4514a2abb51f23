"""No sequence of calls revives what was revoked, outlives its absolute end, or raises assurance by itself.

A model beside the service knows, for each session, when it must be dead; the service may end one earlier (idle, theft,
limits), never later.
"""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from services.session.conformance.harness import service
from services.session.domain import revoking, rotating, updating, validating
from services.session.domain.creating import Assurance
from services.session.domain.errors import SessionInvalid, SubjectDiffers
from services.session.domain.operations import Operation
from services.session.domain.policy import CEILINGS
from services.session.domain.sweeping import Sweeper
from services.session.store.memory import MemoryStore

SUBJECTS = ("alice", "bob")


class Clock:
    def __init__(self):
        self.ns = 10**18
        self.mono = 0.0

    def time_ns(self):
        return self.ns

    def monotonic(self):
        return self.mono

    async def sleep(self, seconds):
        pass


def run(coroutine):
    """The store in memory never waits, so that a call ends at its first step."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("something waited")


class Known:
    def __init__(self, subject, level, now_us):
        self.subject = subject
        self.level = level
        self.auth_us = now_us
        self.revoked = False


class Lives(RuleBasedStateMachine):
    tokens = Bundle("tokens")

    @initialize(seed=st.integers(0, 2**32))
    def start(self, seed):
        self.clock = Clock()
        self.s = run(service(MemoryStore(), clock=self.clock, seed=seed))
        self.sessions = {}
        self.all_tokens = []
        self.sweeper = Sweeper(self.s.tools, 5_000_000, 3_600_000_000)

    def now(self):
        return self.s.tools.clock.now_us()

    def took(self, minted):
        self.all_tokens.append((minted.token, minted.session.handle))
        return minted.token, minted.session.handle

    @rule(target=tokens, subject=st.sampled_from(SUBJECTS), level=st.integers(1, 3))
    def create(self, subject, level):
        minted = run(self.s.create(subject, level=level, data={"k": b"v"}))
        self.sessions[minted.session.handle] = Known(subject, level, self.now())
        return self.took(minted)

    @rule(target=tokens)
    def create_anonymous(self):
        minted = run(self.s.create(""))
        self.sessions[minted.session.handle] = Known("", 0, self.now())
        return self.took(minted)

    @rule(seconds=st.sampled_from([1, 20, 40, 600, 1800, 7200, 50_000, 90_000, 2_000_000]))
    def advance(self, seconds):
        self.clock.ns += seconds * 10**9
        self.clock.mono += seconds

    @rule(seconds=st.sampled_from([5, 4000, 100_000]))
    def set_back(self, seconds):
        self.clock.ns -= seconds * 10**9

    @rule(token=tokens, touch=st.booleans())
    def validate(self, token, touch):
        self.check(*token, touch=touch)

    @rule(target=tokens, token=tokens, privilege=st.booleans())
    def rotate(self, token, privilege):
        text, handle = token
        try:
            minted = run(
                rotating.rotate(
                    self.s.tools, self.s.realm(), "app", text, privilege=privilege, request_id=self.s.uuid()
                )
            )
        except SessionInvalid:
            return token
        self.alive(handle)
        return self.took(minted)

    @rule(target=tokens, token=tokens, level=st.integers(1, 3), subject=st.sampled_from(SUBJECTS))
    def reauthenticate(self, token, level, subject):
        text, handle = token
        try:
            minted = run(
                rotating.reauthenticate(
                    self.s.tools, self.s.realm(), "app", text, Assurance(level, (), 0), subject, self.s.uuid()
                )
            )
        except (SessionInvalid, SubjectDiffers):
            return token
        self.alive(handle)
        known = self.sessions[handle]
        known.subject, known.level, known.auth_us = subject, level, self.now()
        return self.took(minted)

    @rule(token=tokens)
    def update(self, token):
        text, handle = token
        try:
            run(updating.update_data(self.s.tools, self.s.realm(), "app", text, [Operation("n", add=1)], self.s.uuid()))
        except SessionInvalid:
            return
        self.alive(handle)

    @rule(token=tokens)
    def revoke_handle(self, token):
        run(revoking.revoke_handle(self.s.tools, self.s.realm(), "app", token[1]))
        self.sessions[token[1]].revoked = True

    @rule(token=tokens)
    def revoke_others(self, token):
        text, handle = token
        try:
            run(revoking.revoke_others(self.s.tools, self.s.realm(), "app", text))
        except SessionInvalid:
            return
        own = self.sessions[handle]
        for other, known in self.sessions.items():
            if other != handle and own.subject and known.subject == own.subject:
                known.revoked = True

    @rule(subject=st.sampled_from(SUBJECTS), erase=st.booleans())
    def revoke_subject(self, subject, erase):
        verb = revoking.erase_subject if erase else revoking.revoke_subject
        run(verb(self.s.tools, self.s.realm(), "app", subject))
        for known in self.sessions.values():
            known.revoked = known.revoked or known.subject == subject

    @rule()
    def revoke_realm(self):
        run(revoking.revoke_realm(self.s.tools, self.s.realm(), "app"))
        for known in self.sessions.values():
            known.revoked = True

    @rule()
    def restart(self):
        """A new process over the same store, whose clock begins where the machine's is."""
        old = self.s
        self.s = run(service(old.tools.store, ring=old.tools.keyring, clock=self.clock, seed=old.rng.randrange(2**32)))
        floor = run(old.tools.store.noted(["clock_us"])).get("clock_us", b"0")
        self.s.tools.clock._last_us = max(self.s.tools.clock._last_us, int(floor), old.tools.clock.now_us())

    @rule()
    def sweep(self):
        coroutine = self.sweeper.tick()
        while True:
            try:
                coroutine.send(None)
            except StopIteration:
                return

    def alive(self, handle):
        known = self.sessions[handle]
        assert not known.revoked, "a revoked session did something"
        assert self.now() < known.auth_us + CEILINGS[max(known.level, 1) - 1].absolute_us, "it outlived its end"

    def check(self, text, handle, touch=False):
        try:
            found = run(validating.validate(self.s.tools, self.s.realm(), "app", text, touch=touch, data_keys=["*"]))
        except SessionInvalid:
            return
        self.alive(handle)
        known = self.sessions[handle]
        assert found.session.level == known.level and found.session.auth_us == known.auth_us
        assert found.session.ends_us <= known.auth_us + CEILINGS[max(known.level, 1) - 1].absolute_us

    @invariant()
    def every_token_ever_minted_tells_the_truth(self):
        if not hasattr(self, "s"):
            return
        for text, handle in self.all_tokens[-20:]:
            if self.sessions[handle].revoked:
                self.check(text, handle)


def test_ses_07_ses_08_ses_10_whatever_is_called_in_any_order():
    """No sequence of calls raises a level, moves an absolute end, or revives what is over."""
    some = settings(
        max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
    )
    run_state_machine_as_test(Lives, settings=some)
