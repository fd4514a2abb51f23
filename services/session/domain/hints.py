"""What a realm may keep of a session's client, for people to know their sessions by: coarse, sealed, and not for long.

Kept only where the realm asks (`keep_hints`), from what `Create` was told:

field    form                                     purpose                            kept for
network  the /24 of IPv4, the /48 of IPv6         "a login from an unknown network"  hints_lifetime
agent    one of a few families, on one of a few   "which of these is my phone"       hints_lifetime

They are sealed under a key from the subject's, so that erasing the subject erases them; the address and the agent
themselves are kept nowhere.
"""

import ipaddress
import json
from typing import Final

from services.session.domain import homes
from services.session.domain.model import HINTS, Item, Session
from services.session.domain.policy import Policy
from services.session.domain.realms import Realm
from services.session.domain.tools import Tools

FIELDS: Final = ("network", "agent")
OTHER: Final = "other"
AGENTS: Final = (
    ("Edg", "Edge"),
    ("OPR", "Opera"),
    ("Firefox", "Firefox"),
    ("FxiOS", "Firefox"),
    ("Chrome", "Chrome"),
    ("CriOS", "Chrome"),
    ("Safari", "Safari"),
)
"""Part of the User-Agent, and the family it means; the first that fits, for browsers claim to be others as well."""
SYSTEMS: Final = (
    ("Android", "Android"),
    ("iPhone", "iOS"),
    ("iPad", "iOS"),
    ("Windows", "Windows"),
    ("Mac OS", "macOS"),
    ("Linux", "Linux"),
)
_NAME: Final = "hints"
_VERSION: Final = 1


def coarse(address: str, user_agent: str) -> dict[str, str]:
    """What may be kept of an address and a User-Agent; a field that says nothing is left out."""
    hints = {}
    try:
        ip = ipaddress.ip_address(address)
        bits = 24 if ip.version == 4 else 48
        hints["network"] = str(ipaddress.ip_network((ip.packed, bits), strict=False))
    except ValueError:
        pass
    if user_agent:
        family = next((name for part, name in AGENTS if part in user_agent), OTHER)
        system = next((name for part, name in SYSTEMS if part in user_agent), OTHER)
        hints["agent"] = f"{family} on {system}"
    return hints


def sealed(
    tools: Tools, policy: Policy, session: Session, subject_key: bytes, address: str, user_agent: str
) -> list[Item]:
    """The item to keep beside a new session: none where the realm keeps no hints, or there are none."""
    hints = coarse(address, user_agent) if policy.keep_hints else {}
    if not hints:
        return []
    key = tools.vault.shared_key(subject_key, session.realm, session.handle)
    name = tools.vault.item_key(HINTS, session.realm, session.handle, _NAME)
    text = json.dumps(hints).encode()
    item = tools.vault.seal(key, session.realm, session.handle, name, _VERSION, _NAME, text)
    return [item._replace(until_us=session.created_us + policy.hints_lifetime_us)]


async def of_session(tools: Tools, realm: Realm, session: Session) -> dict[str, str]:
    """What is kept of the session's client and not over; nothing where the realm keeps no hints (any more)."""
    policy, now_us = realm.policy, tools.clock.now_us()
    if not policy.keep_hints:
        return {}
    stored = await homes.find(tools, realm.name, session.handle, kinds=HINTS)
    found = await tools.vault.session_key(session)
    if found is None:
        return {}
    key = tools.vault.shared_key(found[0], realm.name, session.handle)
    hints: dict[str, str] = {}
    for item in stored.items.values():
        # A lifetime made shorter counts at once.
        if now_us < min(item.until_us, session.created_us + policy.hints_lifetime_us):
            hints |= json.loads(tools.vault.open(key, realm.name, session.handle, item)[1])
    return hints
