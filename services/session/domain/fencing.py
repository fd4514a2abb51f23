"""Shutting a data centre out, and letting it in again.

One that is shut out serves nothing as soon as it hears of it, and the others wait for it no longer: under `fail_closed`
it has stopped by itself by then. What it revoked, and revokes, counts all the same wherever it is heard of. Let in
again, it serves when it has heard all the others and has what they revoked.
"""

from services.session.domain.errors import FenceRefused
from services.session.domain.origins_model import Fence
from services.session.domain.tools import Tools


async def shut(tools: Tools, caller: str, datacentre: str, reason: str) -> None:
    """Shuts a data centre out. Harmless twice. Raises FenceRefused for one that is unknown, or the last."""
    listening = tools.realms.listening
    _check_known(tools, datacentre)
    left = [name for name in (listening.own, *listening.others) if name != datacentre and not listening.is_shut(name)]
    if not left:
        raise FenceRefused(
            f"{datacentre!r} is the last one that serves, and one at least must; let another one in first, or stop its"
            " servers"
        )
    await _change(tools, datacentre, shut=True, reason=reason)
    tools.events.record("datacentre_fenced", "", caller=caller, datacentre=datacentre)


async def open_again(tools: Tools, caller: str, datacentre: str) -> None:
    """Lets a data centre in again. Harmless twice. Raises FenceRefused for one that is unknown."""
    _check_known(tools, datacentre)
    await _change(tools, datacentre, shut=False, reason="")
    tools.events.record("datacentre_unfenced", "", caller=caller, datacentre=datacentre)


async def _change(tools: Tools, datacentre: str, *, shut: bool, reason: str) -> None:
    origins = tools.store.origins
    if origins is None:
        return  # one that is alone cannot be shut out, and is in
    listening = tools.realms.listening
    before = listening.fences.get(datacentre, Fence(0, False))
    fence = Fence(max(tools.clock.now_us(), before.at_us + 1), shut)
    await origins.fence(datacentre, fence, reason)
    listening.shut({datacentre: fence})


def _check_known(tools: Tools, datacentre: str) -> None:
    known = sorted((tools.datacentre, *tools.others))
    if datacentre not in known:
        raise FenceRefused(f"there is no data centre {datacentre!r}; those that keep sessions are {', '.join(known)}")
