"""The fan-out bench with the engine's log on a broker, for one shard or several, and the curve over their number."""

from collections.abc import Sequence
from pathlib import Path

from tools.bench.fanout_engine import SESSION_S, Engine
from tools.bench.fanout_run import Bench
from tools.bench.figures import Figures, log
from tools.dev.servers.kafka import Kafka

CURVE = (1, 2, 4)
_EACH = (2, 2)
"""Shards and engines: beside the executor and the broker, more engines have no core of their own anywhere here."""


def run(folder: Path, dependents: int, seed: int, shards: int, engines: int) -> Figures:
    """The figures with the log on a broker, and what they are beside the embedded store's."""
    embedded = Bench(folder / "embedded", dependents, seed).render(killed=False)
    figures = _on_a_broker(folder / "kafka", dependents, seed, shards, engines)
    figures["embedded_completions_per_s"] = embedded["completions_per_s"]
    figures["kafka_ratio"] = round(figures["completions_per_s"] / embedded["completions_per_s"], 3)
    figures["embedded_load_s"] = embedded["load_s"]
    figures["session_timeout_s"] = SESSION_S
    figures["shards"] = shards
    figures["engines"] = engines
    return figures


def curve(folder: Path, dependents: int, seed: int) -> tuple[Figures, str]:
    """Completions a second by the number of shards that one engine leads, and for two with an engine each; the former
    as a Mermaid chart."""
    figures: Figures = {"dependents": dependents, "seed": seed}
    embedded = Bench(folder / "embedded", dependents, seed).render(killed=False)["completions_per_s"]
    figures["embedded_completions_per_s"] = embedded
    line: list[float] = []
    for shards, engines in (*((shards, 1) for shards in CURVE), _EACH):
        log(f"shards: {shards}, engines: {engines}")
        measured = _on_a_broker(folder / f"{shards}-{engines}", dependents, seed, shards, engines)
        if engines == 1:
            line.append(measured["completions_per_s"])
        for name in ("acknowledged_s", "completions_per_s", "engine_cores"):
            figures[f"{name}_{shards}_{engines}"] = measured[name]
        figures[f"kafka_ratio_{shards}_{engines}"] = round(measured["completions_per_s"] / embedded, 3)
    return figures, chart(line, embedded)


def _on_a_broker(folder: Path, dependents: int, seed: int, shards: int, engines: int) -> Figures:
    """One shard has its owner killed, and a spare takes over."""
    with Kafka(heap_mib=512) as kafka:
        there = {"bootstrap_servers": [kafka.address], "replication": 1}
        alone = shards == 1
        owner, *more = (
            Engine(folder / f"engine-{number}", kafka=there, shards=shards) for number in range(2 if alone else engines)
        )
        try:
            bench = Bench(folder, dependents, seed, owner, more[0] if alone else None, [] if alone else more)
            return bench.render(killed=alone)
        finally:
            for engine in (owner, *more):
                engine.stop()


def chart(line: Sequence[float], embedded: float) -> str:
    """Of thousands of completions a second; the level line is the embedded store's, of one engine without a log."""
    drawn = [[round(value / 1000) for value in values] for values in (line, [embedded] * len(CURVE))]
    return "\n".join(
        [
            "```mermaid",
            "xychart-beta",
            f"  x-axis shards [{', '.join(map(str, CURVE))}]",
            f'  y-axis "thousand completions a second" 0 --> {max(map(max, drawn)) * 5 // 4}',
            *(f"  line {line}" for line in drawn),
            "```",
        ]
    )
