"""The platform with real services: killed, paused, restarted, refused."""

import threading
import time

import pytest

from tools.platform import health, ports, site
from tools.platform.platform import Event, Platform, PlatformError

PATIENCE_S = 400


class Heard:
    """The events of a platform, to be waited for."""

    def __init__(self):
        self.events: list[Event] = []
        self._changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def count(self, process: str, what: str) -> int:
        return sum((one.process, one.what) == (process, what) for one in self.events)

    def until(self, process: str, what: str, count: int) -> None:
        with self._changed:
            reached = self._changed.wait_for(lambda: self.count(process, what) >= count, PATIENCE_S)
        assert reached, self.events


def layout(tmp_path, **services):
    return site.Site(routes=site.DEFAULT.routes, services=services).layout(tmp_path / "data", ports.free_base())


def test_a_platform_looks_after_its_processes(tmp_path):
    heard = Heard()
    with Platform(layout(tmp_path), tell=heard) as platform:
        for name in platform.layout.processes:
            assert platform.ready_line(name)["pid"] == platform.pid(name)
            assert health.check(platform.addresses[name]) == health.SERVING

        # Killed: it comes back by itself, and the others are left as they are.
        others = {name: platform.pid(name) for name in platform.layout.processes if name != "storage"}
        platform.kill("storage", stay_down=False)
        heard.until("storage", "ready", 2)
        assert heard.count("storage", "died") == 1
        assert {name: platform.pid(name) for name in others} == others

        # Killed by a test: it stays down until it is called.
        platform.kill("session")
        platform.kill("gateway", stay_down=False)
        heard.until("gateway", "ready", 2)
        assert not platform.running("session") and heard.count("session", "died") == 0
        platform.revive("session")
        assert platform.running("session")

        platform.pause("propagation")
        assert health.check(platform.addresses["propagation"], timeout_s=0.5) == health.UNREACHABLE
        platform.resume("propagation")
        before = platform.pid("propagation")
        platform.restart("propagation")
        assert platform.pid("propagation") != before and heard.count("propagation", "died") == 0
    stopped = [event.process for event in heard.events if event.what == "stopped"]
    assert stopped == [*reversed(platform.layout.processes)]
    assert not any(map(platform.running, platform.layout.processes))


def test_a_service_that_cannot_start_ends_the_start_with_its_own_words(tmp_path):
    platform = Platform(layout(tmp_path, session={"no_such_key": 1}))
    with pytest.raises(PlatformError, match="no_such_key"):
        platform.start()
    assert not any(map(platform.running, platform.layout.processes))


def test_a_process_that_dies_again_and_again_waits_longer_each_time(tmp_path):
    heard = Heard()
    with Platform(layout(tmp_path), tell=heard) as platform:
        # What is in its configuration now, it cannot start with.
        platform.layout.config_file("executor").write_text("no_such_key: 1\n")
        platform.kill("executor", stay_down=False)
        heard.until("executor", "died", 3)
        died = [event.detail for event in heard.events if event.what == "died"]
        pauses = [float(detail.partition("again in ")[2].split()[0]) for detail in died]
        assert pauses[:3] == [0.5, 1.0, 2.0]
        assert "no_such_key" in died[1]
        began = time.monotonic()
    # The end does not wait for a pause.
    assert time.monotonic() - began < PATIENCE_S
    assert not any(map(platform.running, platform.layout.processes))
