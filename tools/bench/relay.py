"""The relay bench: how fast `wellspring purge-relay` works a topic off at a cache that acknowledges everything, and
what CPU it takes; beside the least that Python can be (the same messages by the bare consumer, read as JSON, sent by
the raw purger) in the same run.

Broker and cache are processes of their own on the same machine and are not counted. For comparison: Wikimedia's purged,
in Go, was measured by others at 26,500 purges a second and 0.25 CPU seconds for 10,000.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import confluent_kafka
import uvloop
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tools.bench.figures import Figures, tell_figures
from tools.bench.purge import BenchError, Figure, stub
from tools.bench.purge_raw import send_all
from tools.dev.servers.kafka import Kafka

TOPIC = "resource-purge"
PURGED_PER_S = 26_500
PURGED_CPU_S_PER_10K = 0.25
CONNECTIONS, DEPTH = 1, 32
"""A CacheTarget's own defaults: 32 at once, all on one connection."""
_BATCH = 1_000
_PATIENCE_S = 300


def make_topic(address: str) -> None:
    """Makes the topic."""
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic(TOPIC, 4, 1)])[TOPIC].result(_PATIENCE_S)
    end = time.monotonic() + _PATIENCE_S
    while not admin.list_topics(TOPIC, timeout=_PATIENCE_S).topics[TOPIC].partitions:
        if time.monotonic() > end:
            raise BenchError("the topic was made and did not come")


def fill(address: str, count: int) -> None:
    """Writes so many messages of the published schema into the topic, each of another page."""
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": address,
            "enable.idempotence": True,
            "linger.ms": 20,
            "queue.buffering.max.messages": count + 1,
        }
    )
    for number in range(count):
        meta = {
            "stream": TOPIC,
            "uri": f"https://en.example.org/wiki/Page_number_{number}",
            "id": f"00000000-0000-4000-8000-{number:012}",
            "dt": "2026-01-01T00:00:00Z",
            "domain": "en.example.org",
            "request_id": f"request-{number}",
        }
        event = {"$schema": "/resource_change/1.0.0", "meta": meta, "tags": ["change-prop"]}
        producer.produce(TOPIC, json.dumps(event).encode(), key=str(number).encode())
    if producer.flush(_PATIENCE_S):
        raise BenchError("the broker did not take all messages")


@contextmanager
def relay(address: str, port: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The relay's process, at the topic's beginning, and where its page is."""
    cache = f"{{name: cache, urls: ['http://127.0.0.1:{port}'], timeout: 60s}}"
    settings = ["server.listen=127.0.0.1:0", "telemetry.metrics_listen=127.0.0.1:0", f"topics={TOPIC}", "group=bench"]
    settings += [f"kafka={{bootstrap_servers: ['{address}']}}", f"caches=[{cache}]", "begin=oldest"]
    command = [sys.executable, "-m", "services.propagation.relay.main"]
    command += [argument for setting in settings for argument in ("--set", setting)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise BenchError("the relay did not start")
            yield process, f"http://{json.loads(line)['metrics'][0]}/status"
        finally:
            process.kill()


def status(address: str) -> dict[str, object]:
    """What the relay says of itself."""
    with urllib.request.urlopen(address, timeout=_PATIENCE_S) as answer:
        found: dict[str, object] = json.load(answer)
    return found


def cpu_s(pid: int) -> float:
    """CPU seconds, user and system, of a process so far."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ours(process: subprocess.Popen[str], page: str, count: int) -> Figure:
    """The relay's process, which was stopped before the topic had anything, from its going on."""
    began, cpu = time.perf_counter(), cpu_s(process.pid)
    process.send_signal(signal.SIGCONT)
    while True:
        told = status(page)
        if told["invalid"] or told["missed"] or told["repeats"]:
            raise BenchError(f"the relay had trouble: {told}")
        if told["purged"] == count:
            break
        if time.perf_counter() - began > _PATIENCE_S:
            raise BenchError(f"the relay stopped at {told['purged']} of {count:,} purges")
        time.sleep(0.05)
    took, used = time.perf_counter() - began, cpu_s(process.pid) - cpu
    return Figure(count / took, used / count * 10_000)


async def raw(address: str, port: int, count: int) -> Figure:
    """The bare consumer and the raw purger, in turn, in this process."""
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": address, "group.id": f"raw-{time.time_ns()}", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([TOPIC])
    messages = consumer.consume(1, _PATIENCE_S)
    began, cpu, done = time.perf_counter(), time.process_time(), 0
    while True:
        uris = [json.loads(one.value() or b"")["meta"]["uri"] for one in messages]
        requests = [f"PURGE {uri[22:]} HTTP/1.1\r\nHost: en.example.org\r\n\r\n".encode() for uri in uris]
        if requests and await send_all(port, requests, CONNECTIONS, DEPTH):
            raise BenchError("some purges of the raw loop were not acknowledged")
        done += len(requests)
        if done == count:
            break
        messages = consumer.consume(min(_BATCH, count - done), 1.0)
        if time.perf_counter() - began > _PATIENCE_S:
            raise BenchError(f"the raw loop stopped at {done:,} of {count:,} purges")
    took, used = time.perf_counter() - began, time.process_time() - cpu
    consumer.close()
    return Figure(count / took, used / count * 10_000)


def run(count: int) -> Figures:
    """Both over the same messages. Raises BenchError."""
    with Kafka(measured=True) as kafka, stub() as port:
        make_topic(kafka.address)
        with relay(kafka.address, port) as (process, page):
            process.send_signal(signal.SIGSTOP)
            fill(kafka.address, count)
            bare = uvloop.run(raw(kafka.address, port, count))
            relayed = ours(process, page, count)
    return {
        "purges": count,
        "relay_per_s": round(relayed.per_s),
        "relay_cpu_s_per_10k": round(relayed.cpu_s_per_10k, 4),
        "raw_per_s": round(bare.per_s),
        "raw_cpu_s_per_10k": round(bare.cpu_s_per_10k, 4),
        "raw_ratio": round(relayed.per_s / bare.per_s, 3),
        "purged_published_per_s": PURGED_PER_S,
        "purged_published_cpu_s_per_10k": PURGED_CPU_S_PER_10K,
        "purged_published_ratio": round(relayed.per_s / PURGED_PER_S, 3),
    }


def main() -> int:
    """Measures, prints a table or, with ``--json``, one object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--purges", type=int, default=200_000, help="messages in the topic")
    parser.add_argument("--json", action="store_true", help="one object on the last line")
    told = parser.parse_args()
    if told.purges < 5_000:
        parser.error("--purges is 5,000 or more")
    try:
        figures = run(told.purges)
    except (BenchError, OSError) as error:
        print(f"relay bench: {error}", file=sys.stderr)
        return 1
    tell_figures(figures, told.json, print)
    return 0


if __name__ == "__main__":
    sys.exit(main())
