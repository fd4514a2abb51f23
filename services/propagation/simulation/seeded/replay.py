"""Plays seeds: python -m services.propagation.simulation.seeded.replay --seed N [--trace] | --seeds FROM TO

With --log the engines share a log.
Ends with 1 and the command that repeats it when a promise was broken.
"""

import argparse
import sys
import time

from services.propagation.simulation.seeded.log_world import LogWorld
from services.propagation.simulation.seeded.trace import Violation
from services.propagation.simulation.seeded.world import World

COMMAND = "./bazelw run //services/propagation/simulation/{world} --trace"


def say(what: str) -> None:
    """A line for whoever runs this."""
    sys.stdout.write(f"{what}\n")


def play(seed: int, kind: type[World] = World, *, printing: bool = False) -> bool:
    """Whether the seed kept every promise; says what came of it."""
    world = kind(seed, printing=printing)
    began_s = time.monotonic()
    try:
        outcome = world.run()
    except Violation as broken:
        say(report(world, broken))
        return False
    say(f"{outcome} in {time.monotonic() - began_s:.2f} s")
    return True


def report(world: World, broken: BaseException) -> str:
    """What was broken, what came just before, and the command that shows it again."""
    before = "\n".join(world.trace.lines)
    again = COMMAND.format(world=world.replayed())
    return f"{before}\n\nseed {world.seed} broke a promise: {broken}\n  again: {again}"


def main(kind: type[World] | None = None) -> int:
    """Plays worlds of a kind, or of the one that is asked for. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, help="the seed to play")
    parser.add_argument("--seeds", type=int, nargs=2, metavar=("FROM", "TO"), help="all of them, TO not included")
    parser.add_argument("--trace", action="store_true", help="print each step")
    if kind is None:
        parser.add_argument("--log", action="store_true", help="two machines whose engines share a log")
    given = parser.parse_args()
    if (given.seed is None) == (given.seeds is None):
        parser.error("give --seed or --seeds")
    seeds = [given.seed] if given.seeds is None else range(*given.seeds)
    kind = kind or (LogWorld if given.log else World)
    failed = [seed for seed in seeds if not play(seed, kind, printing=given.trace)]
    if len(seeds) > 1:
        say(f"{len(seeds) - len(failed)} of {len(seeds)} seeds kept every promise; broken: {failed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
