"""Makes the tables of the storage server's backend, or brings them to this release.

python -m services.storage.migrate --config storage.yaml
"""

import sys

from libs.config.command import run_migrations
from services.storage.backends import migrate
from wellspring.config.v1 import storage_pb2


def main() -> int:
    """Applies what is missing and says what that was; returns the exit status."""
    return run_migrations("storage", storage_pb2.StorageConfig, migrate)


if __name__ == "__main__":
    sys.exit(main())
