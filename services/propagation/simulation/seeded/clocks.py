"""The engine's clock: virtual time seen through a machine that is suspended and whose wall clock is set."""

from libs.clock.virtual import VirtualClock


class MachineClock:
    """Wall time `skew_s` from the truth, monotonic time that leapt by `leapt_s`: the two are apart, as on a machine."""

    def __init__(self, virtual: VirtualClock, origin_s: float) -> None:
        self._virtual = virtual
        self._origin_s = origin_s
        self.skew_s = 0.0
        self.leapt_s = 0.0

    def time_ns(self) -> int:
        """Wall time."""
        return self._virtual.time_ns() + int(self.skew_s * 1e9)

    def monotonic(self) -> float:
        """Seconds; another origin in each life, as after a reboot."""
        return self._virtual.monotonic() + self._origin_s + self.leapt_s

    async def sleep(self, seconds: float) -> None:
        """In virtual time."""
        await self._virtual.sleep(seconds)
