"""Tokens and versions: how a write is identified, when its time is believable, and which version it gives.

A version is 16 bytes, ordered bytewise. In an LWW namespace it is the token's time (microseconds, 8 bytes big-endian)
and the first 8 bytes of the nonce, so that every server and every retry makes the same one. In a CAS namespace the
store gives it: its clock, pushed above the version before, and the same bytes of the nonce.
"""

from services.storage.domain.errors import ClockDrift
from services.storage.domain.model import WriteToken


def token_version(token: WriteToken) -> bytes:
    """The version of an LWW put with this token."""
    return token.time_us.to_bytes(8, "big") + token.nonce[:8]


def token_delete_version(token: WriteToken) -> bytes:
    """The version of the deletes of an LWW mutation that also puts: a microsecond earlier, so that the puts win."""
    return (token.time_us - 1).to_bytes(8, "big") + token.nonce[:8]


def assigned_version(now_us: int, last: bytes, nonce: bytes) -> bytes:
    """The next version of a CAS namespace whose newest is ``last``: above it even when the clock went back."""
    floor = int.from_bytes(last[:8], "big") + 1 if last else 0
    return max(now_us, floor).to_bytes(8, "big") + nonce[:8]


def expiry_version(expire_us: int, item: bytes) -> bytes:
    """The version of the change that an item's expiry is: the time it expired, yet above the item's own version."""
    stamp = expire_us.to_bytes(8, "big") + bytes(8)
    if stamp > item:
        return stamp
    return min(int.from_bytes(item, "big") + 1, (1 << 128) - 1).to_bytes(16, "big")


def check_drift(token: WriteToken, now_us: int, max_drift_us: int) -> None:
    """Raises ClockDrift when the token's time is further than ``max_drift_us`` from the server's."""
    drift_us = token.time_us - now_us
    if -max_drift_us <= drift_us <= max_drift_us:
        return
    direction = "ahead of" if drift_us > 0 else "behind"
    seconds = abs(drift_us) / 1e6
    text = f"is {seconds:.3f} s {direction} the server's clock; at most {max_drift_us / 1e6:g} s is allowed"
    raise ClockDrift(
        f"token.time {text}; synchronise the clock, or make a new token for a write that is old",
        violations=[("token.time", text)],
        metadata={"drift_s": f"{drift_us / 1e6:.3f}", "max_drift_s": f"{max_drift_us / 1e6:g}"},
    )
