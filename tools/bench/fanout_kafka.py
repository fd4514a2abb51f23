"""The fan-out bench with the engine's log on a broker, for one shard or several, and the curve over their number.

Beside them stands an engine on the embedded store alone. All are loaded first; then the change is rendered by one after
the other, several times, so that whatever else the machine does in a second does not fall on one of them alone.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from tools.bench.fanout_engine import SESSION_S, Engine, cpu_s
from tools.bench.fanout_run import Bench
from tools.bench.figures import Figures, log
from tools.dev.servers.kafka import Kafka

CURVE = (1, 2, 4)
_EACH = (2, 2)
"""Shards and engines: beside the executor and the broker, more engines have no core of their own on a small machine."""
_TOLD = ("acknowledged_s", "completions_per_s", "engine_cores", "engine_cpu_s", "executor_cpu_s", "broker_cpu_s")


def run(folder: Path, dependents: int, seed: int, shards: int, engines: int, passes: int) -> Figures:
    """The figures with the log on a broker, and what they are beside the embedded store's. One shard has its owner
    killed, and a spare takes over."""
    with _opened(folder, dependents, seed, [(shards, engines)], passes) as (embedded, [bench]):
        if shards == 1:
            bench.killed()
        figures = bench.figures
    figures["embedded_completions_per_s"] = embedded.figures["completions_per_s"]
    figures["embedded_engine_cpu_s"] = embedded.figures["engine_cpu_s"]
    figures["kafka_ratio"] = _ratio(bench, embedded)
    figures["embedded_load_s"] = embedded.figures["load_s"]
    figures["session_timeout_s"] = SESSION_S
    figures["shards"] = shards
    figures["engines"] = engines
    figures["passes"] = passes
    return figures


def curve(folder: Path, dependents: int, seed: int, passes: int) -> tuple[Figures, str]:
    """Completions a second by the number of shards that one engine leads, and for two with an engine each; the former
    as a Mermaid chart."""
    figures: Figures = {"dependents": dependents, "seed": seed, "passes": passes}
    wanted = [*((shards, 1) for shards in CURVE), _EACH]
    with _opened(folder, dependents, seed, wanted, passes) as (embedded, benches):
        for name in ("completions_per_s", "engine_cpu_s", "executor_cpu_s"):
            figures[f"embedded_{name}"] = embedded.figures[name]
        for (shards, engines), bench in zip(wanted, benches, strict=True):
            for name in _TOLD:
                figures[f"{name}_{shards}_{engines}"] = bench.figures[name]
            figures[f"kafka_ratio_{shards}_{engines}"] = _ratio(bench, embedded)
        line = [bench.figures["completions_per_s"] for bench in benches[: len(CURVE)]]
    return figures, chart(line, figures["embedded_completions_per_s"])


@contextmanager
def _opened(
    folder: Path, dependents: int, seed: int, wanted: Sequence[tuple[int, int]], passes: int
) -> Iterator[tuple[Bench, list[Bench]]]:
    """The engine without a log, and those of each (shards, engines); all have rendered the change so many times."""
    with ExitStack() as stack:
        kafka = stack.enter_context(Kafka(heap_mib=512, measured=True))

        def opened(bench: Bench) -> Bench:
            stack.callback(bench.close)
            bench.open()
            return bench

        embedded = opened(Bench(folder / "embedded", dependents, seed))
        benches = []
        for shards, engines in wanted:
            log(f"shards: {shards}, engines: {engines}")
            name = f"{shards}-{engines}"
            made = _engines(folder / name, kafka, f"{name}.", shards, engines)
            for engine in made:
                stack.callback(engine.stop)
            benches.append(opened(_bench(folder / name, dependents, seed, made, _cpu_of(kafka))))
        for _ in range(passes):
            for bench in (embedded, *benches):
                bench.undisturbed()
        yield embedded, benches


def _engines(folder: Path, kafka: Kafka, prefix: str, shards: int, engines: int) -> list[Engine]:
    """With one shard, one more: the spare."""
    there = {
        "bootstrap_servers": [kafka.address],
        "replication": 1,
        "topic_prefix": prefix,
        "group": f"{prefix}engines",
    }
    count = 2 if shards == 1 else engines
    return [Engine(folder / f"engine-{number}", kafka=there, shards=shards) for number in range(count)]


def _bench(folder: Path, dependents: int, seed: int, engines: Sequence[Engine], cpu: Callable[[], float]) -> Bench:
    owner, *more = engines
    spare, others = (more[0], []) if owner.shards == 1 else (None, more)
    return Bench(folder, dependents, seed, owner, spare, others, cpu)


def _cpu_of(kafka: Kafka) -> Callable[[], float]:
    return lambda: sum(cpu_s(broker.pid) for broker in kafka.brokers)


def _ratio(bench: Bench, embedded: Bench) -> float:
    """The middle of the ratios of renderings that followed each other."""
    pairs = zip(bench.passes("completions_per_s"), embedded.passes("completions_per_s"), strict=True)
    return round(median(one / other for one, other in pairs), 3)


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
