"""Whatever comes in whatever order: the newest of each page is awaited, and the position passes nothing that is."""

from hypothesis import given
from hypothesis import strategies as st

from services.propagation.homes.awaited import Awaited, Position, Rendered

PAGES = st.builds(
    lambda resource, version, gone: Rendered("html", resource, version.to_bytes(16, "big"), gone),
    st.sampled_from("abcd"),
    st.integers(1, 20),
    st.booleans(),
)
STEPS = st.lists(st.one_of(st.lists(PAGES, max_size=5), st.integers(0, 5)), max_size=40)


@given(STEPS)
def test_the_newest_of_each_page_is_awaited_and_the_position_passes_nothing_that_is(steps):
    awaited = Awaited(Position())
    told, taken = [], set()
    for step in steps:
        if isinstance(step, list):
            told.append(step)
            awaited.add(step, Position(str(len(told))))
        else:
            done = awaited.pages()[:step]
            taken.update(done)
            awaited.done(done)
        reached = int(awaited.position.token or 0)
        for number, pages in enumerate(told, start=1):
            for page in pages:
                newer = [other for other in awaited.pages() if other.resource == page.resource]
                seen = any(one.resource == page.resource and one.version >= page.version for one in taken)
                assert seen or any(other.version >= page.version for other in newer)
                if number <= reached:
                    assert seen or any(
                        other.version >= page.version
                        for later in told[reached:]
                        for other in later
                        if other.resource == page.resource
                    )
        if not len(awaited):
            assert reached == len(told)


def test_a_page_that_was_rendered_again_meanwhile_is_awaited_still():
    awaited = Awaited(Position("0"))
    first, second = (Rendered("html", "a", bytes([0] * 15 + [n]), False) for n in (1, 2))
    awaited.add([first], Position("1"))
    awaited.add([second], Position("2"))
    assert awaited.position == Position("1"), "the second one is told after it"
    awaited.done([first])
    assert awaited.pages() == [second]
    awaited.add([first], Position("3"))
    awaited.done([second])
    assert (len(awaited), awaited.position) == (0, Position("3"))
