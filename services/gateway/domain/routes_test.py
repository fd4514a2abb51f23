"""Paths to records, hostile ones included."""

import pytest

from services.gateway.domain.routes import BadPath, Route, resolve

WIKI = Route("/wiki/", "html", "enwiki/page/")
ROUTES = [WIKI, Route("/wiki/raw/", "text", "enwiki/raw/", b"k")]


def test_the_longest_prefix_wins():
    assert resolve(ROUTES, "/wiki/A").namespace == "html"
    assert resolve(ROUTES, "/wiki/raw/A").record == b"enwiki/raw/A"
    assert resolve(ROUTES, "/wiki/raw/A").item_key == b"k"
    assert resolve(ROUTES, "/other/A") is None


def test_all_spellings_of_a_name_are_one_path():
    spellings = [
        "/wiki/Z%C3%BCrich",
        "/wiki/Z%c3%bcrich",
        "/wiki/%5A%C3%BCrich",
        "/w%69ki/Z%C3%BCrich",
    ]
    assert {resolve(ROUTES, s).path for s in spellings} == {"/wiki/Z%C3%BCrich"}
    assert resolve(ROUTES, spellings[0]).record == "enwiki/page/Zürich".encode()


def test_a_question_mark_in_a_name_is_part_of_it():
    assert resolve(ROUTES, "/wiki/What%3F").record == b"enwiki/page/What?"
    assert resolve(ROUTES, "/wiki/What%3F").path == "/wiki/What%3F"


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/wiki/", "names no page"),
        ("/wiki/%FF", "not UTF-8"),
        ("/wiki/a%00b", "control character"),
        ("/wiki/a%0Ab", "control character"),
        ("/wiki/" + "a" * 1013, "at most 1024"),
    ],
)
def test_what_names_no_page_is_said(path, what):
    with pytest.raises(BadPath, match=what):
        resolve(ROUTES, path)


def test_what_is_read_is_a_view_of_a_resource():
    routes = [WIKI, Route("/sum/", "summaries", view="summary", resource_prefix="enwiki/page/")]
    target = resolve(routes, "/sum/Z%C3%BCrich")
    assert (target.view, target.resource, target.record) == ("summary", "enwiki/page/Zürich", "Zürich".encode())
    assert resolve(routes, "/wiki/A").view == resolve(routes, "/wiki/A").resource == ""
    assert resolve(routes, "/sum/" + "a" * 1020).view == ""
