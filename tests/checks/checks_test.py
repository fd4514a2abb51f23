"""Every check on one platform, with its processes ended in one way between all phases."""

import contextlib

import pytest

import wellspring_client
from tests.checks import propagation_checks, session_checks, storage_checks
from tests.checks.check import WAIT_S, Site
from tests.checks.renderer import PREFIX
from tools.platform import ports
from tools.platform.layout import SERVICES, Layout, Route, fixed_ports
from tools.platform.platform import Platform

CHECKS = (*storage_checks.CHECKS, *session_checks.CHECKS, *propagation_checks.CHECKS)


def nothing(platform):
    pass


def restart(platform):
    """Everything is drained, and starts again."""
    platform.stop()
    platform.start()


def kill(platform):
    """SIGKILL to everything, and a start."""
    platform.kill_all()
    platform.start()


@contextlib.contextmanager
def running(folder):
    layout = Layout(
        data=folder,
        ports=fixed_ports(ports.free_base()),
        routes=(Route(f"/{PREFIX}", propagation_checks.VIEW, PREFIX),),
        views=propagation_checks.VIEWS,
        overrides={service: {"server": {"drain_wait": "50ms"}} for service in SERVICES},
    )
    with Platform(layout, restart=False) as platform:
        yield platform


@pytest.mark.parametrize("between", [nothing, restart, kill])
def test_what_was_acknowledged_stays_true(between, tmp_path):
    checks = [kind() for kind in CHECKS]
    phases = [
        ("initialise", lambda check, site: check.initialise(site)),
        ("manipulate 1", lambda check, site: check.manipulate(site, 1)),
        ("manipulate 2", lambda check, site: check.manipulate(site, 2)),
        ("validate", lambda check, site: check.validate(site)),
    ]
    with running(tmp_path) as platform:
        for number, (phase, do) in enumerate(phases):
            if number:
                between(platform)
            failures = []
            at = platform.addresses
            addresses = {name: at[name] for name in ("storage", "session", "propagation")}
            with wellspring_client.connect(**addresses, timeout=WAIT_S) as client:
                for check in checks:
                    try:
                        do(check, Site(client, at["http"]))
                    except Exception as error:  # Every check is heard before the test fails.
                        failures.append(f"{type(check).__name__}: {type(error).__name__}: {error}")
            assert not failures, f"{phase}, after {between.__name__}:\n" + "\n".join(failures)
