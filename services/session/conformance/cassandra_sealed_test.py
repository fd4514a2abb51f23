"""A stolen cluster is useless: no secret, subject, name or value in any row, nor in a node's commit log."""

import asyncio
import logging

from prometheus_client import CollectorRegistry, generate_latest

from services.session.conformance import node
from services.session.conformance.harness import service
from services.session.conformance.planting import SUBJECT, planted
from services.session.crypto import pseudonyms
from services.session.domain import revoking
from services.session.events import ToldEvents


def test_ses_03_ses_22_canaries_are_in_no_row_commit_log_log_metric_or_error(caplog):
    caplog.set_level(logging.DEBUG)
    registry = CollectorRegistry()
    errors: list[str] = []

    async def main():
        async with node.opened() as store:
            s = await service(store)
            object.__setattr__(s.tools, "events", ToldEvents(registry))
            told = await planted(s, errors)
            stored = [node.rows(), node.commit_log()]
            who = pseudonyms.pseudonym(s.tools.keyring, "web", SUBJECT)
            assert all(who in place for place in stored if place), "what is stored is looked through"
            await revoking.erase_subject(s.tools, s.realm(), "app", SUBJECT)
            return told, [*stored, node.rows(), node.commit_log()]

    told, stored = asyncio.run(main())
    everywhere = [*stored, caplog.text.encode(), generate_latest(registry), "".join(errors).encode()]
    assert len(told) > 100 and len(stored[0]) > 1000
    for place, text in enumerate(everywhere):
        for canary in told:
            assert canary not in text, f"a canary is in place {place}"
