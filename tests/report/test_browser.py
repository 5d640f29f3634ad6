"""The page in a real browser: no message, no request, nothing past the right edge, in both themes and languages."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from theorylens.report import html

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian package chromium)")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--enable-logging=stderr", "--v=0",
    "--virtual-time-budget=3000", "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip
SCRIPTS = Path(__file__).parent / "scripts"


def browse(source: str, folder, width: int, *, theme: str | None = None) -> dict:
    catch, measure = (f"<script>{(SCRIPTS / name).read_text()}</script>" for name in ("catch.js", "measure.js"))
    page = source.replace("<head>", "<head>" + catch, 1).replace("</body>", measure + "</body>", 1)
    if theme:
        page = page.replace("<html ", f'<html data-theme="{theme}" ', 1)
    # A frame has the width asked for; a headless window is never narrower than 500 px.
    (folder / "page.html").write_text(page, encoding="utf-8")
    frame = f'<iframe id="f" src="page.html" style="width:{width}px;height:4000px;border:0"></iframe>'
    holder = f"<!doctype html>{frame}<script>{(SCRIPTS / 'ask.js').read_text()}</script>"
    (folder / "holder.html").write_text(holder, encoding="utf-8")
    done = subprocess.run(
        [CHROMIUM, *FLAGS, "--allow-file-access-from-files", f"--user-data-dir={folder / 'profile'}",
         f"--window-size={max(width, 500) + 40},4200", "--dump-dom", f"file://{folder / 'holder.html'}"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    told = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.S)
    assert told, f"the page was not measured: {done.stderr[-1500:]}"
    measured = json.loads(told.group(1).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    measured["console"] = re.findall(r":CONSOLE[^\]]*\] (.*)", done.stderr)
    return measured


@pytest.fixture(scope="module")
def pages(record):
    return {lang: html(record, lang) for lang in ("en", "zh")}


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("width", [390, 820, 1280])
def test_nothing_sticks_out_overlaps_complains_or_is_fetched(pages, lang, width, tmp_path):
    seen = browse(pages[lang], tmp_path, width)
    assert seen["width"] == width
    assert seen["scroll"] <= width
    assert seen["out"] == []
    assert seen["touching"] == []
    assert seen["errors"] == []
    assert seen["console"] == []
    assert seen["fetched"] == []


def test_dark_and_light_draw_the_same_page_in_other_colours(pages, tmp_path):
    seen = {theme: browse(pages["en"], tmp_path, 1280, theme=theme) for theme in ("light", "dark")}
    assert seen["light"]["paper"] == "rgb(252, 251, 248)"
    assert seen["dark"]["paper"] == "rgb(21, 24, 28)"
    assert seen["light"]["stroke"] != seen["dark"]["stroke"] == "rgb(125, 180, 242)"


def test_a_hostile_record_runs_nothing(hostile, tmp_path):
    page = html(hostile).replace("<head>", '<head><script>window.alert=function(){console.log("attacked")}</script>', 1)
    seen = browse(page, tmp_path, 390)
    assert seen["errors"] == []
    assert seen["console"] == []
    assert seen["fetched"] == []
    assert seen["scroll"] <= 390


def test_the_measuring_script_sees_what_is_wrong(pages, tmp_path):
    broken = pages["en"].replace(
        "</main>",
        '<div style="width:2000px">x</div><img src="http://localhost:9/x.png" alt="">'
        '<figure><svg viewBox="0 0 99 20" aria-label="two">'
        "<text x='0' y='12'>one</text><text x='2' y='12'>two</text></svg></figure></main>",
        1,
    )
    seen = browse(broken, tmp_path, 820)
    assert any(o.startswith("DIV") for o in seen["out"])
    assert seen["touching"]
    assert seen["errors"]
    assert seen["fetched"]
