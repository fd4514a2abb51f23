"""What a team would write instead: a loop that takes events and makes one GET for each, with aiohttp, on uvloop.

No retry, no state, no store, no purge. Events come from a Kafka topic (confluent-kafka's consumer, in batches), or from
memory where there is no broker. Says what it used as one line of JSON: {"events", "seconds", "cpu_s"}.

python -m tools.bench.endtoend_loop --url http://127.0.0.1:8080/render/ --events 20000 --kafka 127.0.0.1:9092
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator

import aiohttp
import uvloop
from confluent_kafka import Consumer

TOPIC = "changes"
CONCURRENCY = 64
_BATCH = 500
_WAIT_S = 30.0


def batches_from_memory(count: int) -> Iterator[list[str]]:
    """As many names, made up."""
    for start in range(0, count, _BATCH):
        yield [f"bench/page/{n:09}" for n in range(start, min(count, start + _BATCH))]


def batches_from_kafka(address: str, count: int) -> Iterator[list[str]]:
    """The names in the topic's messages, until there have been so many."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "bare-loop", "auto.offset.reset": "earliest"})
    consumer.subscribe([TOPIC])
    seen = 0
    try:
        while seen < count:
            messages = consumer.consume(_BATCH, _WAIT_S if not seen else 5.0)
            if not messages:
                raise SystemExit(f"the topic ended after {seen:,} of {count:,} events")
            names = [json.loads(value)["resource"] for one in messages if (value := one.value()) is not None]
            seen += len(names)
            yield names
    finally:
        consumer.close()


async def run(url: str, batches: Iterator[list[str]]) -> dict[str, float]:
    """One GET for each name. Time and CPU count from the first event on."""
    limit = asyncio.Semaphore(CONCURRENCY)
    events = 0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENCY)) as session:

        async def get(name: str) -> None:
            async with limit, session.get(url + name.replace("/", "%2F")) as answer:
                answer.raise_for_status()
                await answer.read()

        began_s = cpu_s = 0.0
        for names in batches:
            if not events:
                began_s, cpu_s = time.monotonic(), time.process_time()
            events += len(names)
            await asyncio.gather(*(get(name) for name in names))
        return {"events": events, "seconds": time.monotonic() - began_s, "cpu_s": time.process_time() - cpu_s}


def main() -> int:
    """Runs once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="what a page's name is put behind")
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--kafka", default="", help="host:port; empty: events from memory")
    asked = parser.parse_args()
    batches = batches_from_kafka(asked.kafka, asked.events) if asked.kafka else batches_from_memory(asked.events)
    print(json.dumps(uvloop.run(run(asked.url, batches))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
