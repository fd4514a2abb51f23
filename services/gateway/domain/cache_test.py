"""The cache's rules against what breaks them: overtaken fetches, old versions, floods."""

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.domain.cache import Page, PageCache


def version(n: int) -> bytes:
    return n.to_bytes(16, "big")


def page(n: int, size: int = 10, tags: tuple[str, ...] = ()) -> Page:
    return Page(b"x" * size, "text/html", f"e{n}", version(n), tags)


def cache(**options):
    return PageCache(**{"capacity_bytes": 1 << 20, "lifetime_s": 60, **options})


def fill(c: PageCache, path: str, p: Page, now: float = 0) -> bool:
    return c.end_fetch(c.begin_fetch(path), p, now)


def test_kept_until_its_lifetime_ends():
    c = cache()
    fill(c, "/a", page(1))
    assert c.get("/a", 59) == page(1)
    assert c.get("/a", 60) is None
    assert (c.size_bytes, len(c)) == (0, 0)


def test_a_purge_forgets_and_a_newer_page_stays():
    c = cache()
    fill(c, "/a", page(5))
    assert c.purge("/a", version(5)) == 0 and c.get("/a", 0) == page(5)
    assert c.purge("/a", version(6)) == 1 and c.get("/a", 0) is None
    assert c.purge("/a") == 0


def test_nothing_older_than_the_minimum_is_served_or_kept():
    c = cache()
    c.purge("/a", version(6))
    assert not fill(c, "/a", page(5))
    assert c.get("/a", 0) is None and c.statistics.refused == 1
    assert fill(c, "/a", page(6)) and c.get("/a", 0) == page(6)


def test_a_minimum_never_falls():
    c = cache()
    c.purge("/a", version(6))
    c.purge("/a", version(4))
    assert not fill(c, "/a", page(5))


def test_a_fetch_overtaken_by_a_purge_is_answered_but_not_kept():
    c = cache()
    fetch = c.begin_fetch("/a")
    c.purge("/a")
    assert c.end_fetch(fetch, page(1), 0)
    assert c.get("/a", 0) is None


def test_a_fetch_overtaken_by_a_tag_purge_is_not_kept():
    c = cache()
    fetch = c.begin_fetch("/a")
    c.purge_tags(["t"])
    c.end_fetch(fetch, page(1, tags=("t",)), 0)
    assert c.get("/a", 0) is None


def test_a_fetch_that_brings_what_a_purge_asks_for_is_kept():
    for purge in (lambda c: c.purge("/a", version(2)), lambda c: c.purge_tags(["t"], version(2))):
        for brought, kept in ((1, False), (2, True), (3, True)):
            c = cache()
            fetch = c.begin_fetch("/a")
            purge(c)
            c.end_fetch(fetch, page(brought), 0)
            assert (c.get("/a", 0) is not None) == kept
        c = cache()
        fetch = c.begin_fetch("/a")
        purge(c)
        c.purge_tags(["t"])
        c.end_fetch(fetch, page(3), 0)
        assert c.get("/a", 0) is None


def test_a_tag_with_a_minimum_purges_what_is_older():
    c = cache()
    for n in range(1, 6):
        fill(c, f"/{n}", page(n, tags=("t",)))
    assert c.purge_tags(["t"], version(3)) == 2
    assert [c.get(f"/{n}", 0) is None for n in range(1, 6)] == [True, True, False, False, False]
    assert not c.minimum("/1")  # a tag says nothing of how new its pages have to be


def test_an_older_page_never_replaces_a_newer_one():
    c = cache()
    slow = c.begin_fetch("/a")
    fill(c, "/a", page(2))
    c.end_fetch(slow, page(1), 0)
    assert c.get("/a", 0) == page(2)


def test_tags_purge_all_and_only_their_pages():
    c = cache()
    for n in range(10):
        fill(c, f"/{n}", page(1, tags=("even" if n % 2 == 0 else "odd", "all")))
    assert c.purge_tags(["even"]) == 5
    assert [c.get(f"/{n}", 0) is None for n in range(10)] == [True, False] * 5
    assert c.purge_tags(["even", "all"]) == 5
    assert (c.size_bytes, c._by_tag) == (0, {})


def test_minimums_are_bounded_and_forgetting_one_early_is_known():
    c = cache(max_minimums=100, minimum_kept_s=60)
    for n in range(100):
        c.purge(f"/{n}", version(1), now_s=n / 100)
    assert not c.must_ask_strongly(1)
    c.purge("/100", version(1), now_s=1)
    assert len(c._minimums) == 100 and c.minimum("/100") and not c.minimum("/0")
    assert c.must_ask_strongly(59.9) and not c.must_ask_strongly(60)


def test_a_cache_that_has_just_begun_knows_what_it_does_not_know():
    c = cache(minimum_kept_s=60, forgot_until_s=160)
    assert c.must_ask_strongly(100) and c.must_ask_strongly(159.9) and not c.must_ask_strongly(160)


def test_minimums_end_with_their_time():
    c = cache(minimum_kept_s=60)
    c.purge("/a", version(1), now_s=0)
    c.purge("/b", version(1), now_s=61)
    assert not c.minimum("/a") and c.minimum("/b") and not c.must_ask_strongly(61)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 20),
            st.integers(0, 3000),
            st.sampled_from(["fill", "purge", "tag"]),
        )
    )
)
def test_size_is_bounded_and_counted_exactly(steps):
    c = cache(capacity_bytes=8000, max_page_bytes=4000)
    for number, (name, size, what) in enumerate(steps):
        if what == "fill":
            fill(c, f"/{name}", page(number, size, (f"t{name % 3}",)))
        elif what == "purge":
            c.purge(f"/{name}", version(number) if size % 2 else b"")
        else:
            c.purge_tags([f"t{name % 3}"])
        assert c.size_bytes <= 8000
        assert c.size_bytes == sum(e.page.size_bytes + len(p) for p, e in c._entries.items())
        assert {p for paths in c._by_tag.values() for p in paths} == set(c._entries)
