"""The page: what is on it, that it is whole HTML, that it asks nobody for anything, and that a browser shows it."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from asyncsim.errors import UserError
from asyncsim.report import write_report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EMPTY = {"meta", "link", "img", "br", "hr", "input"}
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


class Page(HTMLParser):
    """Elements, attributes and text; fails on tags that do not close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(text)
        assert not self.stack

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, key, value or "") for key, value in attrs]
        if tag not in EMPTY:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="session")
def html(study, tmp_path_factory):
    return write_report(study, tmp_path_factory.mktemp("page") / "page.html").read_text()


def test_what_is_on_it(html, study):
    page = Page(html)
    text = " ".join(page.text)
    titles = ["What diverged or failed", "Settings side by side", "Figures", "All runs"]
    titles += ["Scenario", "Environment", "Fingerprints"]
    places = [text.index(title) for title in titles]
    assert places == sorted(places)
    for run in study.glob("[!.]*"):
        assert run.name in text
    assert "9 runs · 5 settings · 2 to 4 workers · 8 finished · 1 diverged" in text
    assert "at update" in text
    assert page.tags.count("img") >= 6
    assert len(re.findall(r"\b[0-9a-f]{64}\b", text)) == 18
    assert "task:" in text


def test_it_asks_nobody_for_anything(html):
    """No address anywhere but in text, in the pictures neither; and the page's own policy forbids requests."""
    page = Page(html)
    for tag, key, value in page.attributes:
        assert not re.search(r"https?:|//|url\(", value) or value.startswith("data:image/svg+xml;base64,"), (tag, key)
    assert not {"iframe", "object", "embed", "base"} & set(page.tags)
    assert [key for tag, key, _ in page.attributes if tag == "script"] == []
    assert [value for tag, _, value in page.attributes if tag == "link"] == ["icon", "data:,"]
    styles = re.search("<style>(.*?)</style>", html, re.S)[1]
    assert "@import" not in styles
    assert "url(" not in styles
    for picture in re.findall(r"base64,([^\"]+)", html):
        svg = base64.b64decode(picture).decode()
        assert "<image" not in svg
        assert not re.findall(r"(?:href|src)=\"(?!#)[^\"]*", svg)
    assert ("meta", "content") in [(tag, key) for tag, key, value in page.attributes if value.startswith("default-src 'none'")]


def test_the_same_runs_the_same_bytes(html, study, tmp_path):
    assert write_report(study, tmp_path / "again.html").read_text() == html


def test_what_users_wrote_is_escaped(messy):
    html = write_report(messy).read_text()
    assert (messy / "report.html").exists()
    page = Page(html)
    assert page.tags.count("script") == 1
    assert "<script>alert" not in html
    assert "<script>alert('x')</script>&\"' # http://example.org/x" in " ".join(page.text)


def test_broken_runs_are_on_it(messy):
    text = " ".join(Page(write_report(messy).read_text()).text)
    for name in "abcde":
        assert f"broken_{name}" in text
    assert "nobody noted an end" in text
    assert text.count("unreadable") == 5


def test_errors(tmp_path, study):
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match="no run in it"):
        write_report(tmp_path)
    (tmp_path / "run" / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match="none of its 1 runs can be read"):
        write_report(tmp_path)
    with pytest.raises(UserError, match=r"ends in \.html"):
        write_report(study, tmp_path / "a.pdf")
    with pytest.raises(UserError, match="cannot be written"):
        write_report(study, tmp_path / "no" / "a.html")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on PATH")
def test_a_browser_shows_it(html, tmp_path):
    """The pictures load under the page's own policy, the table sorts, nothing is logged; the probe is added for the test."""
    probe = """<script>addEventListener("load", () => {
      const images = [...document.images], button = document.querySelector("th button");
      button.click(); const sorted = button.closest("th").getAttribute("aria-sort");
      document.title = `${images.length} ${images.every(image => image.naturalWidth > 100)} ${sorted}
        ${performance.getEntriesByType("resource").filter(entry => !entry.name.startsWith("data:")).length}`; });</script>"""
    page = tmp_path / "page.html"
    page.write_text(html.replace("</body>", probe + "</body>"))
    command = [BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    title = re.search("<title>(.*?)</title>", done.stdout, re.S)[1].split()
    assert title == [str(html.count("<img")), "true", "ascending", "0"]
