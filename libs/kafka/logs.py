"""Where the library's own words go: a log of its own, never to a caller."""

import logging

log = logging.getLogger("kafka.client")
