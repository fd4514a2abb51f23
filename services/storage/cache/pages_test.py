"""Pages: what was sealed is opened as it was, nothing else is, and what is selected is what the store would answer."""

import asyncio

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.storage.cache import pages
from services.storage.cache.entries import Place
from services.storage.cache.selecting import keepable, over, select, too_big, whole
from services.storage.domain.commands import body_digest
from services.storage.domain.model import Command, Item, Mode, Put, Selection, WriteToken
from services.storage.domain.namespace import Settings
from services.storage.store.interface import Page, Read, Write
from services.storage.store.memory import memory_store

KEY = b"k" * 32
NOW_US = 1_700_000_000_000_000
texts = st.text(st.characters(codec="utf-8"), max_size=20)
items = st.builds(
    Item,
    st.binary(max_size=40),
    st.binary(max_size=200),
    st.binary(min_size=16, max_size=16),
    st.integers(0, 1 << 60),
    st.integers(0, 1 << 60),
    st.text(st.characters(codec="ascii"), max_size=128),
    st.dictionaries(texts, texts, max_size=3).map(lambda some: tuple(sorted(some.items()))),
    st.integers(0, 1 << 40),
    st.booleans(),
)
places = st.builds(Place, st.integers(1, 1 << 31), st.binary(min_size=1, max_size=30))
pages_ = st.builds(
    Page,
    st.lists(items, max_size=4),
    st.none(),
    st.booleans(),
    st.binary(max_size=16),
    st.integers(0, 1 << 40),
    st.just(False),
)


@settings(max_examples=40, deadline=None)
@given(pages_, places)
def test_a_page_is_opened_as_it_was_sealed(page, place):
    assert pages.open_page(pages.close(page, place, KEY), place, KEY) == page


@given(places)
def test_that_a_record_is_too_big_is_kept_too(place):
    assert pages.open_page(pages.close(pages.TOO_BIG, place, KEY), place, KEY) == pages.TOO_BIG


@settings(max_examples=40, deadline=None)
@given(pages_, places, st.data())
def test_what_is_damaged_forged_or_anothers_is_not_opened(page, place, data):
    sealed = pages.close(page, place, KEY)
    flipped = bytearray(sealed)
    at = data.draw(st.integers(0, 8 * len(sealed) - 1))
    flipped[at // 8] ^= 1 << at % 8
    assert pages.open_page(bytes(flipped), place, KEY) is None
    assert pages.open_page(sealed[: data.draw(st.integers(0, len(sealed) - 1))], place, KEY) is None
    assert pages.open_page(sealed + b"\0", place, KEY) is None
    assert pages.open_page(sealed, place, b"another" + KEY) is None
    assert pages.open_page(sealed, place._replace(number=place.number + 1), KEY) is None
    assert pages.open_page(sealed, place._replace(record=place.record + b"0"), KEY) is None


@given(st.binary(max_size=100), places)
def test_noise_is_not_opened(noise, place):
    assert pages.open_page(noise, place, KEY) is None


keys = st.sampled_from([b"", b"a", b"b", b"ba", b"c", b"\xff"])
selections = st.builds(Selection, st.lists(keys, max_size=4, unique=True).map(sorted).map(tuple), reverse=st.booleans())
selections |= st.builds(Selection, st.none(), keys, st.none() | keys.filter(bool), st.booleans())
values = st.dictionaries(keys, st.tuples(st.binary(max_size=300), st.booleans()), max_size=6)


@settings(max_examples=40, deadline=None)
@given(values, selections, st.none() | keys, st.integers(1, 1000), st.integers(1, 4), st.booleans())
def test_a_selection_of_a_kept_page_is_what_the_store_answers(values, selection, after, max_bytes, max_items, omit):
    """But for where a page is cut by its bytes, which need only be bounded: pages to the end have the same items."""

    # A reader goes on after an item that was selected.
    assume(after is None or selection.keys is not None or _selected(selection, after))

    async def story():
        store = memory_store(lambda: NOW_US)
        space = await store.create_namespace(Settings("n", Mode.CAS), NOW_US)
        puts = tuple(
            Put(key, value, "text/plain" if more else "", (("a", "1"),) if more else ())
            for key, (value, more) in values.items()
        )
        if puts:
            digest = body_digest(puts, (), None, None)
            token = WriteToken(NOW_US, b"n" * 16)
            await store.mutate([Write(space, Command(b"r", token, puts, (), tuple(range(len(puts))), digest))])
        read = Read(space, b"r", selection, after, 1 << 20, 1000, omit)
        kept = await store.read(whole(read, 64 * 1024))
        assert keepable(kept, 64 * 1024)
        answered = await store.read(read)
        got = select(kept, read, read.max_bytes)
        assert (got.items, got.resume, got.found, got.version) == answered[:4]
        by_count = read._replace(max_items=max_items)
        assert select(kept, by_count, 1 << 20)[:4] == (await store.read(by_count))[:4]
        found, bounded = [], read._replace(max_bytes=max_bytes)
        while True:
            page = select(kept, bounded, max_bytes)
            assert len(page.items) == 1 or sum(len(one.key) + len(one.value) for one in page.items) <= max_bytes
            found += page.items
            if page.resume is None:
                break
            bounded = bounded._replace(after=page.resume)
        assert found == answered.items

    asyncio.run(story())


def _selected(selection, key):
    return key >= selection.start and (selection.end is None or key < selection.end)


def test_what_is_kept_and_what_is_over():
    item = Item(b"k", b"v", b"v" * 16, 1, 0, "", (), 1, False)
    expiring = item._replace(expire_us=10)
    whole_one = Page([item], None, True, b"v" * 16, 100)
    assert keepable(whole_one, 100) and not keepable(whole_one, 99) and too_big(whole_one, 99)
    assert not keepable(whole_one._replace(resume=b"k"), 100) and not too_big(whole_one._replace(resume=b"k"), 100)
    assert not keepable(whole_one._replace(overdue=True), 100)  # its version changes when the sweep comes
    assert not keepable(whole_one._replace(items=[]), 100)  # an item that is not shown keeps the record
    assert keepable(Page([], None, False, b"", 0), 100)
    page = whole_one._replace(items=[item, expiring])
    assert not over(page, 9) and over(page, 10) and not over(whole_one, 1 << 60)
