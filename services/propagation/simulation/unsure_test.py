"""A page that was A, became B in the store without an accepted completion, and is A again: it is stored again."""

import pytest

from services.propagation.domain.views import RetryPolicy, View
from services.propagation.simulation.world import World, failures_of


def stored_and_not_accepted():
    """A world where A was accepted, and B is stored and purged by a lease that is still out."""
    world = World([View("html", ("page/",), RetryPolicy(3, 1.0, 60.0), lease_s=30.0)])
    (page,) = world.pages(1, "t")
    world.edit("t")
    world.drain()
    accepted = world.site.render(("html", page))
    world.edit("t")
    (grant,) = world.lease()
    rendered = world.render(grant)
    world.store(rendered)
    world.purge(rendered)
    return world, page, accepted, rendered


def back_to_the_first(world):
    """The source says again what it said at first, as a newer version."""
    world.edit("t")
    world.site.shown_of["t", "content"] = 1


@pytest.mark.parametrize("how", ["expired", "failed", "released", "crash", "dead letter"])
def test_a_page_that_went_there_and_back_is_not_cut_off(how):
    world, page, accepted, rendered = stored_and_not_accepted()
    number = world.number(page)
    if how == "expired":
        world.clock.advance(31)
        world.engine.tick()
    elif how == "crash":
        world.crash()
    elif how == "released":
        world.complete(rendered, released=[number])
    else:
        world.complete(rendered, failed=failures_of([number], "PURGE_FAILED", retryable=how == "failed"))
        if how == "dead letter":
            world.crash()
    back_to_the_first(world)
    assert world.site.render(("html", page)) == accepted
    world.drain()
    assert world.site.stored["html", page][1] == accepted
    puts = world.site.puts
    back_to_the_first(world)
    world.drain()
    assert world.site.puts == puts  # once it is accepted, an equal render is cut off again
