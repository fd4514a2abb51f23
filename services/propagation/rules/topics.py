"""The topics of the engine's own log."""

CHANGED = "wellspring.resource.changed.v1"
"""Accepted changes."""
COMPLETED = "wellspring.change.completed.v1"
"""Finished roots."""
ENGINE_TOPICS = frozenset((CHANGED, COMPLETED))
