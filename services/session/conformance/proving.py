"""Sessions bound to a key of the client, and proofs that somebody has it, for the suites."""

from services.session.conformance.harness import Service
from services.session.crypto.dpop_fakes import ClientKey
from services.session.domain.creating import Assurance, Client, Minted, create
from services.session.domain.proofs import Proof

URI = "https://app.example/page"


async def bound(s: Service, key: ClientKey, subject: str = "alice") -> Minted:
    """A session, empty `subject`: an anonymous one, with the value "n" of 1."""
    assurance = Assurance(1 if subject else 0, (), 0)
    client = Client(bind=key.thumbprint)
    return await create(s.tools, s.realm(), "app", subject, assurance, {"n": b"1"}, {}, s.uuid(), client)


def proof(s: Service, key: ClientKey, token: bytes, retry: str = "", **claims: object) -> Proof:
    """A proof of this moment; see `Proof` of `retry`."""
    return Proof(key.proof(token, s.clock.time_ns() / 1e9, **claims), "GET", URI, retry)
