"""Goldens of markup, written by hand: each construct and the HTML that it must give."""

import pytest

from examples.wiki.fake_site import Site, body, render

NEW = '<a class="new" href="/enwiki/page/{0}" title="{0}">{1}</a>'


def link(title, shown=None):
    return NEW.format(title, shown or title)


GOLDENS = [
    ("", ""),
    ("one\ntwo\n\nthree", "<p>one\ntwo</p>\n\n<p>three</p>"),
    ("''i'' '''b''' '''''both'''''", "<p><i>i</i> <b>b</b> <i><b>both</b></i></p>"),
    ("== A ''b'' ==\ntext", '<h2 id="A_b">A <i>b</i></h2>\n\n<p>text</p>'),
    ("== A ==\n== A ==", '<h2 id="A">A</h2>\n\n<h2 id="A_2">A</h2>'),
    ("* a\n* b\n** c\n* d", "<ul>\n<li>a</li>\n<li>b\n<ul>\n<li>c</li>\n</ul>\n</li>\n<li>d</li>\n</ul>"),
    ("# a\n# b", "<ol>\n<li>a</li>\n<li>b</li>\n</ol>"),
    ("; t : d\n: e", "<dl>\n<dt>t</dt>\n<dd>d</dd>\n<dd>e</dd>\n</dl>"),
    (": a\n:: b", "<dl>\n<dd>a\n<dl>\n<dd>b</dd>\n</dl>\n</dd>\n</dl>"),
    ("*# a", "<ul>\n<li>\n<ol>\n<li>a</li>\n</ol>\n</li>\n</ul>"),
    (" a\n  b\nc", "<pre>a\n b</pre>\n\n<p>c</p>"),
    ("----", "<hr/>"),
    ("a <!-- b --> c", "<p>a  c</p>"),
    ("a\n <!-- b --> \nc", "<p>a\nc</p>"),
    ("__NOTOC__a", "<p>a</p>"),
    ("[[x]]s", f"<p>{link('X', 'xs')}</p>"),
    ("[[x|y]]", f"<p>{link('X', 'y')}</p>"),
    ("[[x|''y'']]", f"<p>{link('X', '<i>y</i>')}</p>"),
    ("[[:Category:x]]", f"<p>{link('Category:X', 'Category:x')}</p>"),
    ("[[Page]] [[page#s]]", '<p><strong class="selflink">Page</strong> <a href="/enwiki/page/Page#s">page#s</a></p>'),
    ("[[#s t]]", '<p><a href="#s_t">#s t</a></p>'),
    ("[[a<b]] [[]]", "<p>[[a&lt;b]] [[]]</p>"),
    ("[[fr:Terre]]", '<p><span class="interwiki" title="fr">fr:Terre</span></p>'),
    ("a [[Category:B|key]]", f'<p>a</p>\n<ul class="categories"><li>{link("Category:B", "B")}</li></ul>'),
    (
        "[[File:A.png|thumb|20px|the [[x]]]]",
        f'<p><span class="file">{link("File:A.png", "A.png")}: the {link("X", "x")}</span></p>',
    ),
    ("[http://x.org y]", '<p><a class="external" rel="nofollow" href="http://x.org">y</a></p>'),
    ("[http://x.org]", '<p><a class="external" rel="nofollow" href="http://x.org">[1]</a></p>'),
    (
        "http://x.org/?a&b",
        '<p><a class="external" rel="nofollow" href="http://x.org/?a&amp;b">http://x.org/?a&amp;b</a></p>',
    ),
    ("[javascript:alert(1) x]", "<p>[javascript:alert(1) x]</p>"),
    ("<b onclick=x class=y>z</b>", '<p><b class="y">z</b></p>'),
    ("<div>a\n\nb</div>", "<div><p>a</p>\n\n<p>b</p></div>"),
    ("<center>a</center>", '<div class="center">a</div>'),
    ("<br> <br/> </br>", "<p><br/> <br/> <br/></p>"),
    ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>"),
    ("<b>open", "<p>&lt;b&gt;open</p>"),
    ("<nowiki>''a'' [[b]] &lt;</nowiki>", "<p>''a'' [[b]] &lt;</p>"),
    ("<pre>''a''\n b</pre>", "<pre class=\"pre\">''a''\n b</pre>"),
    ("<math>a<b</math>", '<p><code class="math">a&lt;b</code></p>'),
    ("&eacute; &lt; &nosuch; &#233;", "<p>é &lt; &amp;nosuch; é</p>"),
    ("<poem>a\nb</poem>", '<div class="poem">a<br/>b</div>'),
    ("<gallery>\nA.png|b\n</gallery>", f"<ul>\n<li>{link('File:A.png', 'b')}</li>\n</ul>"),
    ("<timeline>x</timeline>", '<p><span class="unsupported" data-name="timeline">&lt;timeline&gt;</span></p>'),
    (
        '{| class="t"\n|+ cap\n! h !! i\n|-\n| a || style="color:red" | b\n|}',
        '<table class="t"><caption>cap</caption>\n<tr><th>h</th><th>i</th></tr>\n\n'
        '<tr><td>a</td><td style="color:red">b</td></tr>\n</table>',
    ),
    ("{|\n|\n* a\n|}", "<table>\n<tr><td><ul>\n<li>a</li>\n</ul></td></tr>\n</table>"),
    (
        'a<ref>n</ref> b<ref name="x"/> c<ref name=x>m</ref>\n\n<references/>',
        '<p>a<sup class="reference"><a href="#cite_note-1">[1]</a></sup> '
        'b<sup class="reference"><a href="#cite_note-2">[2]</a></sup> '
        'c<sup class="reference"><a href="#cite_note-2">[2]</a></sup></p>\n'
        '<ol class="references">\n<li id="cite_note-1">n</li>\n<li id="cite_note-2">m</li>\n</ol>',
    ),
    (
        '<ref group="g q">n</ref>',
        '<p><sup class="reference"><a href="#cite_note-g_q_1">[g q 1]</a></sup></p>\n'
        '<ol class="references">\n<li id="cite_note-g_q_1">n</li>\n</ol>',
    ),
]


@pytest.mark.parametrize(("wikitext", "html"), GOLDENS)
def test_golden(wikitext, html):
    assert body(wikitext) == html


def test_links_are_blue_when_the_target_is_there_and_depend_on_its_existence_only():
    site = Site({"Page": "[[Earth]] [[Mars]]"})
    red = site.render("Page")
    assert red.dependencies == [("enwiki/page/Earth", "existence"), ("enwiki/page/Mars", "existence")]
    assert red.body.count(b'class="new"') == 2
    site.put("Earth", "round")
    blue = site.render("Page")
    assert b'<a href="/enwiki/page/Earth"' in blue.body
    assert blue.body.count(b'class="new"') == 1
    site.put("Earth", "an oblate spheroid", version=2)
    assert site.render("Page") == blue


def test_redirect_pages_are_a_link_and_what_follows():
    result = render("#REDIRECT [[Earth]]\n\n{{R}} [[Category:C]]", R="why")
    html = result.body.decode()
    assert (
        '<p class="redirect">Redirect to <a class="new" href="/enwiki/page/Earth" title="Earth">Earth</a></p>' in html
    )
    assert "why" in html
    assert [resource.rpartition("/")[2] for resource, aspect in result.dependencies if aspect == "existence"] == [
        "Category:C",
        "Earth",
        "Template:R",
    ]
    assert "1. REDIRECT" not in body("#REDIRECT [[a<b]]")


def test_templates_that_hold_half_a_construct():
    assert body("{{Start}}\n| a\n{{End}}", Start="{|", End="|}") == "<table>\n<tr><td>a</td></tr>\n</table>"
    assert body("[[{{T}}|x]]", T="earth") == f"<p>{link('Earth', 'x')}</p>"
    assert body("{{T}}\n* b", T="* a") == "<ul>\n<li>a</li>\n<li>b</li>\n</ul>"
