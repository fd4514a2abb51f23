"""Makes the tables of the session server's backend, or brings them to this release.

python -m services.session.migrate --config session.yaml
"""

import sys

from libs.config.command import run_migrations
from services.session.backends import migrate
from wellspring.config.v1 import session_pb2


def main() -> int:
    """Applies what is missing and says what that was; returns the exit status."""
    return run_migrations("session", session_pb2.SessionConfig, migrate)


if __name__ == "__main__":
    sys.exit(main())
