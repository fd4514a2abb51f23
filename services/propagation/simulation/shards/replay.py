"""Plays seeds: python -m services.propagation.simulation.shards.replay --seed N [--trace] | --seeds FROM TO

Ends with 1 and the command that repeats it when a promise was broken.
"""

import sys

from services.propagation.simulation.seeded.replay import main
from services.propagation.simulation.shards.world import FleetWorld

if __name__ == "__main__":
    sys.exit(main(FleetWorld))
