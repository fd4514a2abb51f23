"""The fan-out bench: one change with millions of dependents, through the real server and one executor process.

Twice as many pages as dependents are loaded, a seeded half of which depend on one template; the template changes, and
each dependent is leased, its name decoded, and completed, durably. Then it changes again, and at half way the engine is
killed (-9) and started again. Both times every dependent must have been rendered, and no other page. At the end the raw
libraries do the same completions, for the ratio.

With --log kafka the same is done with the engine's log on a broker of the bench, beside another engine on the embedded
store alone, in turns of --passes: `kafka_ratio` is what that leaves of the completions a second. There the engine is
not started again: a spare leads when the group has given it up (`session_timeout_s`). With --shards above 1 nothing is
killed, and --engines share them. --curve does 1, 2 and 4 shards led by one engine, and draws that.

./bazelw run //tools/bench:fanout -- --dependents 5000000 --json
./bazelw run //tools/bench:fanout -- --log kafka --dependents 2000000 --json
./bazelw run //tools/bench:fanout -- --log kafka --shards 4 --engines 2 --dependents 200000 --json
./bazelw run //tools/bench:fanout -- --log kafka --curve --dependents 500000
"""

import argparse
import sys
from collections.abc import Callable

from tools.bench import fanout_kafka
from tools.bench.fanout_run import Bench
from tools.bench.figures import add_options, log, run_folder, tell_figures

MOST_SHARDS = 64
MOST_PASSES = 100


def main(tell: Callable[[str], None] = print) -> int:
    """Measures; prints a table or, with ``--json``, one object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dependents", type=int, default=1_000_000, help="of the change; pages are twice as many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", choices=("embedded", "kafka"), default="embedded", help="where the engine's log is")
    parser.add_argument("--shards", type=int, default=1, help="of the log on Kafka")
    parser.add_argument("--engines", type=int, default=1, help="that lead the shards")
    parser.add_argument("--passes", type=int, default=5, help="of the change, with --log kafka; the middle is told")
    parser.add_argument("--curve", action="store_true", help="1, 2 and 4 shards, as a picture")
    add_options(parser)
    asked = parser.parse_args()
    if not 1_000 <= asked.dependents <= 100_000_000:
        parser.error("--dependents: 1,000 to 100,000,000 are allowed")
    if not 1 <= asked.shards <= MOST_SHARDS or (asked.shards > 1 and asked.log != "kafka"):
        parser.error(f"--shards: 1 to {MOST_SHARDS} are allowed with --log kafka, 1 without")
    if not 1 <= asked.engines <= asked.shards:
        parser.error("--engines: 1 to as many as there are shards")
    if asked.curve and (asked.log != "kafka" or asked.shards > 1):
        parser.error("--curve: with --log kafka, and without --shards")
    if not 1 <= asked.passes <= MOST_PASSES:
        parser.error(f"--passes: 1 to {MOST_PASSES} are allowed")
    with run_folder("fanout", asked.folder) as folder:
        if asked.curve:
            figures, picture = fanout_kafka.curve(folder, asked.dependents, asked.seed, asked.passes)
            log(picture)
        elif asked.log == "kafka":
            figures = fanout_kafka.run(folder, asked.dependents, asked.seed, asked.shards, asked.engines, asked.passes)
        else:
            figures = Bench(folder, asked.dependents, asked.seed).run()
    tell_figures(figures, asked.json, tell)
    return 0


if __name__ == "__main__":
    sys.exit(main())
