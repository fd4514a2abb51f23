"""Which faults one seed plays, and how often: some of them each time, drawn anew by seed, so that seeds differ in kind.

Probabilities are for one boundary between two steps of a process, or for one message; times are seconds.
"""

from dataclasses import dataclass, fields, replace
from random import Random


@dataclass(frozen=True, slots=True)
class Faults:
    """All zero is a calm world. `..._every_s` is the mean time between two of them, 0 for never."""

    engine_crash: float = 0.0
    engine_crash_every_s: float = 0.0
    disk_slow_s: float = 0.002
    disk_refuses_every_s: float = 0.0
    executor_kill: float = 0.0
    executor_stop: float = 0.0
    delay_s: float = 0.002
    request_lost: float = 0.0
    answer_lost: float = 0.0
    duplicated: float = 0.0
    purge_lost: float = 0.0
    cache_restart_every_s: float = 0.0
    wall_jump_every_s: float = 0.0
    engine_leap_every_s: float = 0.0
    render_fails: float = 0.0
    render_slow: float = 0.0
    render_hangs: float = 0.0
    poisoned: float = 0.0
    replica_lag_s: float = 0.0
    operator_every_s: float = 0.0
    cancels: bool = False
    reload_every_s: float = 0.0
    left_out: float = 0.0
    deleted: float = 0.0
    log_twice: float = 0.0
    leaderless_every_s: float = 0.0
    take_over_every_s: float = 0.0

    @classmethod
    def drawn(cls, rng: Random) -> "Faults":
        """About half of the faults, each somewhere between rare and frequent."""
        worst = cls(
            engine_crash=0.008,
            engine_crash_every_s=6.0,
            disk_slow_s=0.3,
            disk_refuses_every_s=15.0,
            executor_kill=0.03,
            executor_stop=0.02,
            delay_s=0.4,
            request_lost=0.05,
            answer_lost=0.05,
            duplicated=0.1,
            purge_lost=0.05,
            cache_restart_every_s=10.0,
            wall_jump_every_s=8.0,
            engine_leap_every_s=15.0,
            render_fails=0.1,
            render_slow=0.1,
            render_hangs=0.01,
            poisoned=0.1,
            replica_lag_s=3.0,
            operator_every_s=3.0,
            cancels=True,
            reload_every_s=12.0,
            left_out=0.4,
            deleted=0.3,
            log_twice=0.1,
            leaderless_every_s=10.0,
            take_over_every_s=6.0,
        )
        drawn: dict[str, float | bool] = {}
        for one in fields(cls):
            most = getattr(worst, one.name)
            if rng.random() < 0.5:
                drawn[one.name] = one.default  # type: ignore[assignment]
            elif one.name.endswith("_every_s"):
                drawn[one.name] = most * rng.uniform(1.0, 4.0)
            elif isinstance(most, bool):
                drawn[one.name] = most
            else:
                drawn[one.name] = most * rng.uniform(0.1, 1.0)
        return cls(**drawn)  # type: ignore[arg-type]

    def calm(self) -> "Faults":
        """The same world when the storm is over: what is slow by nature stays so."""
        return Faults(replica_lag_s=self.replica_lag_s, delay_s=min(self.delay_s, 0.01))

    def with_(self, **more: float) -> "Faults":
        """With some of them set."""
        return replace(self, **more)  # type: ignore[arg-type]

    def __str__(self) -> str:
        shown = [f"{f.name}={getattr(self, f.name):.3g}" for f in fields(self) if getattr(self, f.name)]
        return ", ".join(shown)
