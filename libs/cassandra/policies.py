"""What the driver may send again on its own."""

from typing import Any

from cassandra.policies import RetryPolicy


class Resend(RetryPolicy):  # type: ignore[misc]  # the driver is untyped
    """A read, and a write marked as idempotent, goes once to the next host when a host could not take it. A conditional
    write (LWT) is never sent again: its first sending may have been applied, and a second would then answer that its
    condition does not hold."""

    def on_read_timeout(self, query: Any, *_: Any, retry_num: int, **__: Any) -> tuple[int, None]:
        return (self.RETRY_NEXT_HOST, None) if retry_num == 0 else (self.RETHROW, None)

    def on_write_timeout(
        self, query: Any, consistency: Any, write_type: Any, *_: Any, retry_num: int, **__: Any
    ) -> tuple[int, None]:
        return self._once(query, retry_num)

    def on_unavailable(self, query: Any, *_: Any, retry_num: int, **__: Any) -> tuple[int, None]:
        # Nothing was done: another coordinator may see more replicas.
        return (self.RETRY_NEXT_HOST, None) if retry_num == 0 else (self.RETHROW, None)

    def on_request_error(
        self, query: Any, consistency: Any, error: Exception, retry_num: int, **_: Any
    ) -> tuple[int, None]:
        return self._once(query, retry_num)

    def _once(self, query: Any, retry_num: int) -> tuple[int, None]:
        safe = bool(getattr(query, "is_idempotent", False))
        return (self.RETRY_NEXT_HOST, None) if safe and retry_num == 0 else (self.RETHROW, None)
