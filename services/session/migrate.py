"""Makes the tables of the session server's backend, or brings them to this release.

python -m services.session.migrate --config session.yaml
"""

import asyncio
import sys

from libs.config.command import EX_CONFIG, from_command_line
from libs.config.mistakes import ConfigError
from libs.errors.errors import WellspringError
from services.session.backends import migrate
from wellspring.config.v1 import session_pb2


def main() -> int:
    """Applies what is missing and says what that was; returns the exit status."""
    config = from_command_line("session", session_pb2.SessionConfig)
    try:
        done = asyncio.run(migrate(config))
    except ConfigError as error:
        sys.stderr.write(error.message + "\n")
        return EX_CONFIG
    except WellspringError as error:
        sys.stderr.write(error.message + "\n")
        return 1
    sys.stdout.write("".join(f"applied {name}\n" for name in done) or "nothing is missing\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
