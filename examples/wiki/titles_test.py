"""Titles: normalisation, what is refused, and names of resources that go there and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.wiki import titles
from examples.wiki.titles import InvalidTitle, Title, parse, parse_resource, parse_template, resource


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("algorithm", Title("", "Algorithm")),
        (" _al  gor__ithm_ ", Title("", "Al gor ithm")),
        ("éclair", Title("", "Éclair")),
        ("template:cite_web", Title("Template", "Cite web")),
        ("TEMPLATE :  cite web", Title("Template", "Cite web")),
        ("image:a.png", Title("File", "A.png")),
        ("user_talk:x", Title("User talk", "X")),
        (":Category:Art", Title("Category", "Art")),
        ("2001: A Space Odyssey", Title("", "2001: A Space Odyssey")),
        ("AT&amp;T", Title("", "AT&T")),
        ("A&copyb", Title("", "A&copyb")),
        ("Earth#Inner core", Title("", "Earth", "Inner core")),
        ("#Inner_core", Title("", "", "Inner core")),
        ("fr:terre", Title("", "terre", "", "fr")),
        ("wikt:word", Title("", "word", "", "wikt")),
        ("a\u200eb", Title("", "Ab")),
    ],
)
def test_titles(written, title):
    assert parse(written) == title


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("cite web", "Template:Cite web"),
        ("Template:cite web", "Template:Cite web"),
        ("subst:cite web", "Template:Cite web"),
        (" SafeSubst : cite web", "Template:Cite web"),
        (":earth", "Earth"),
        ("portal:art", "Portal:Art"),
        ("Campaignbox A: B", "Template:Campaignbox A: B"),
    ],
)
def test_template_names(written, title):
    assert parse_template(written).full == title


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("", "may not be empty"),
        ("Template:", "may not be empty"),
        ("a[b", r"may not hold '\['"),
        ("a{{b", "may not hold '{'"),
        ("a\x00b", "may not hold"),
        ("a\x7fb", "may not hold"),
        ("a%20b", "may not hold '%20'"),
        ("~~~~", "may not hold '~~~'"),
        ("..", "relative path"),
        ("a/../b", "relative path"),
        ("é" * 128, "at most 255 bytes, this one has 256"),
        ("a\ud800", "lone surrogates"),
    ],
)
def test_refused(written, reason):
    with pytest.raises(InvalidTitle, match=reason):
        parse(written)


def test_resources():
    assert resource(parse("template:cite web"), "enwiki") == "enwiki/page/Template:Cite_web"
    assert parse_resource("enwiki/page/AC/DC") == ("enwiki", Title("", "AC/DC"))
    assert titles.href("enwiki/page/Schrödinger's_100?") == "/enwiki/page/Schr%C3%B6dinger's_100%3F"
    assert titles.href("enwiki/page/A", "b c<") == "/enwiki/page/A#b_c%3C"
    for wrong in (
        "enwiki/page/",
        "enwiki/page/a",
        "enwiki/page/A b",
        "enwiki/image/A",
        "A",
        "EN/page/A",
        "enwiki/page/A#b",
    ):
        with pytest.raises(InvalidTitle):
            parse_resource(wrong)
    with pytest.raises(InvalidTitle, match="a site is"):
        resource(parse("A"), "../x")


@given(st.text(max_size=300))
def test_what_is_accepted_is_a_fixed_point_and_a_good_resource(written):
    try:
        title = parse(written)
    except InvalidTitle:
        return
    if title.interwiki or not title.name:
        return
    again = parse(":" + title.full if title.namespace == "" else title.full)
    assert (again.namespace, again.name) == (title.namespace, title.name)
    name = resource(title, "enwiki")
    assert len(name.encode()) <= titles.MAX_RESOURCE_BYTES
    assert not any(ord(char) < 32 or ord(char) == 127 or char == " " for char in name)
