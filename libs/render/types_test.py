"""The small rules of the renderer's interface."""

import asyncio

import pytest

from libs.render.types import (
    CONTENT,
    EXISTENCE,
    Document,
    RenderError,
    RenderRequest,
    RenderResult,
    dependency_list,
    surrogate_key,
)


@pytest.mark.parametrize(
    ("resource", "key"),
    [
        ("enwiki/page/Algorithm", "enwiki/page/Algorithm"),
        ("enwiki/page/A b", "enwiki/page/A%20b"),
        ("enwiki/page/100%", "enwiki/page/100%25"),
        ("enwiki/page/É", "enwiki/page/%C3%89"),
        ("enwiki/page/a%20b", "enwiki/page/a%2520b"),
    ],
)
def test_surrogate_keys_are_ascii_without_spaces_and_never_collide(resource, key):
    assert surrogate_key(resource) == key


def test_dependencies_are_sorted_and_unique():
    assert dependency_list([("b", CONTENT), ("a", EXISTENCE), ("b", CONTENT)]) == [("a", EXISTENCE), ("b", CONTENT)]


def test_a_renderer_is_a_plain_async_function():
    async def fetch(names):
        return {name: Document(b"text", bytes(16), "text/plain") if name == "s/k/t" else None for name in names}

    async def shout(request):
        document = (await request.fetch([request.resource]))[request.resource]
        if document is None:
            raise RenderError(f"{request.resource} is not stored")
        return RenderResult(document.value.upper(), "text/plain")

    result = asyncio.run(shout(RenderRequest("s/k/t", "loud", fetch)))
    assert (result.body, result.dependencies, result.missing) == (b"TEXT", [], False)
    with pytest.raises(RenderError, match="s/k/u is not stored") as caught:
        asyncio.run(shout(RenderRequest("s/k/u", "loud", fetch)))
    assert caught.value.retryable is False
