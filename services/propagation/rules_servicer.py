"""The rules' part of PropagationAdmin: put and listed, and the dead letters that they left."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from libs.config.config import ConfigError, Mistake
from libs.errors.errors import InvalidArgument
from libs.paging.paging import PageTokens
from libs.rpc.call import Call
from services.propagation import messages
from services.propagation.rules.rules import VIEW_PREFIX, Rules
from services.propagation.rules.state import Letter
from wellspring.propagation.v1 import propagation_admin_pb2

PAGE_SIZE = 100
MAX_PAGE_SIZE = 1_000
_CHUNK = 500
"""Dead letters handled by one commit."""

_Handle = Callable[[list[Letter]], tuple[int, Awaitable[None] | None]]


RulesNow = Callable[[], Rules]
"""Those that run now. Raises Unavailable while none do, FailedPrecondition where they never will."""


class RulesServicer:
    """Base of the servicer: what it answers of rules."""

    def __init__(self, rules: RulesNow) -> None:
        self._rules = rules

    async def ValidateRules(
        self, request: propagation_admin_pb2.ValidateRulesRequest, call: Call
    ) -> propagation_admin_pb2.ValidateRulesResponse:
        """Every mistake, with its position; nothing is changed."""
        return propagation_admin_pb2.ValidateRulesResponse(mistakes=mistakes(self._rules().validate(request.yaml)))

    async def PutRules(
        self, request: propagation_admin_pb2.PutRulesRequest, call: Call
    ) -> propagation_admin_pb2.PutRulesResponse:
        """Takes the rules when there is no mistake in them; what was accepted before runs under those before."""
        rules = self._rules()
        try:
            durable = rules.put(request.yaml, request.if_revision)
        except ConfigError as error:
            return propagation_admin_pb2.PutRulesResponse(
                revision=rules.book.revision, mistakes=mistakes(error.mistakes)
            )
        revision = rules.book.revision
        await durable
        return propagation_admin_pb2.PutRulesResponse(revision=revision)

    async def ListRules(
        self, request: propagation_admin_pb2.ListRulesRequest, call: Call
    ) -> propagation_admin_pb2.ListRulesResponse:
        """The rules in force."""
        book = self._rules().book
        return propagation_admin_pb2.ListRulesResponse(yaml=book.text, revision=book.revision)


class RuleLetters:
    """Dead letters of rules: those asked for as of the view `rule/<name>`, or `rule/` for all rules."""

    def __init__(self, rules: RulesNow, tokens: PageTokens) -> None:
        self._rules = rules
        self._tokens = tokens

    @staticmethod
    def are_meant(wanted: propagation_admin_pb2.DeadLetterFilter) -> bool:
        """Whether the filter asks for them."""
        return wanted.view.startswith(VIEW_PREFIX)

    def query(
        self, request: propagation_admin_pb2.QueryDeadLettersRequest
    ) -> propagation_admin_pb2.QueryDeadLettersResponse:
        """A page of them; `total` counts all that match. Raises InvalidArgument."""
        wanted, size = request.filter, page_size(request.page_size)
        method, identity = "QueryDeadLetters", [wanted.SerializeToString(deterministic=True)]
        after = self._tokens.open(request.page_token, method=method, identity=identity) or b""
        rules = self._rules()
        letters, last = rules.query(*_asked(wanted), size, after)
        return propagation_admin_pb2.QueryDeadLettersResponse(
            dead_letters=[_letter(letter) for letter in letters],
            next_page_token=self._tokens.issue(last, method=method, identity=identity) if last else "",
            total=rules.count(*_asked(wanted)),
        )

    async def replay(self, wanted: propagation_admin_pb2.DeadLetterFilter) -> int:
        """Has those that match tried again, under the rules in force; answers how many."""
        return await self._each(wanted, self._rules().replay)

    async def discard(self, wanted: propagation_admin_pb2.DeadLetterFilter) -> int:
        """Gives those that match up for good; answers how many."""
        return await self._each(wanted, self._rules().discard)

    async def _each(self, wanted: propagation_admin_pb2.DeadLetterFilter, handle: _Handle) -> int:
        handled, after = 0, b""
        while True:
            letters, after = self._rules().query(*_asked(wanted), _CHUNK, after)
            count, durable = handle(letters)
            if durable is not None:
                await durable
            handled += count
            if not after:
                return handled
            await asyncio.sleep(0)


def page_size(asked: int) -> int:
    """How long a page is to be. Raises InvalidArgument."""
    if asked < 0:
        raise InvalidArgument.field("page_size", f"is {asked}; 0 to {MAX_PAGE_SIZE:,} are allowed")
    return min(asked or PAGE_SIZE, MAX_PAGE_SIZE)


def mistakes(found: Sequence[Mistake]) -> list[propagation_admin_pb2.Mistake]:
    """Mistakes in a file as messages."""
    return [
        propagation_admin_pb2.Mistake(
            line=one.line,
            column=one.column,
            what=f"{one.path}: {one.what}" if one.path else one.what,
            allowed=one.allowed,
        )
        for one in found
    ]


def _asked(wanted: propagation_admin_pb2.DeadLetterFilter) -> tuple[str, str, str, str]:
    return wanted.view.removeprefix(VIEW_PREFIX), wanted.resource_prefix, wanted.root, wanted.reason


def _letter(letter: Letter) -> propagation_admin_pb2.DeadLetter:
    return propagation_admin_pb2.DeadLetter(
        view=VIEW_PREFIX + letter.rule,
        resource=letter.resource,
        root=letter.root,
        reason=letter.reason,
        detail=letter.detail,
        attempts=letter.attempts,
        first_time=messages.timestamp(letter.first_ns),
        last_time=messages.timestamp(letter.last_ns),
    )
