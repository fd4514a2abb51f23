"""What all servers of a store must be able to do before one of them begins with it.

Each server says what it can beside its keys, in the row that says it lives. One of an earlier release, which lacks
an ability, would undo a promise without knowing: what needs the ability is refused, by name, until it is gone. Where
one data centre has the store nothing needs any.
"""

import json
from typing import Final

from services.session.domain.errors import ServersOlder
from services.session.store.interface import Store

BOUND: Final = "proofs at home"
"""Spends proofs of possession at the home of their session."""
OPAQUE: Final = "opaque deletions heard"
"""Hears what other data centres deleted of opaque realms."""
ALL: Final = (BOUND, OPAQUE)


async def check_everywhere(store: Store, ability: str) -> None:
    """Raises ServersOlder where a server that is known here, in any data centre, lacks an ability; Unavailable."""
    if store.origins is None or store.fellows is None:
        return
    said = await store.fellows.near()
    older = [name for name, text in said.items() if ability not in json.loads(text).get("abilities", ())]
    if older:
        raise ServersOlder(ability, older)
