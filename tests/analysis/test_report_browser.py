"""The page in a real browser: no overflow at any width, dark and light, and on paper."""

import os
import re
import shutil
import subprocess
from html import escape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.report import page

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH and none in CHROMIUM"),
]
WIDTHS = (1280, 800, 500)

# The product page runs no script, so a page around it measures it: what sticks out on the right
# of its frame, and is not inside something that scrolls.
MEASURE = """<!doctype html><meta charset="utf-8"><body>{frames}<pre id="out"></pre><script>
onload = () => {{
const lines = [];
for (const frame of document.querySelectorAll("iframe")) {{
  const page = frame.contentDocument, width = frame.clientWidth;
  for (const closed of page.querySelectorAll("details")) closed.open = true;
  lines.push([width, "scroll", page.documentElement.scrollWidth].join(" "));
  for (const node of page.querySelectorAll("body *")) {{
    if (node.closest(".scroll, nav, .skip")) continue;
    if (node.closest("svg") && node.tagName != "text") continue;  // figures clip what they draw
    const box = node.getBoundingClientRect();
    if (box.width && (box.right > width + 1 || box.left < -1))
      lines.push([width, "out", node.tagName, Math.round(box.right), node.className].join(" "));
  }}
}}
document.getElementById("out").textContent = "MEASURED\\n" + lines.join("\\n") + "\\nEND";
}}</script>"""


def browse(tmp_path: Path, *arguments: str) -> str:
    done = subprocess.run(
        [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def measured(tmp_path: Path, *pages: str) -> list[str]:
    policy = r'<meta http-equiv="Content-Security-Policy"[^>]*>'
    open_policy = [re.sub(policy, "", html) for html in pages]
    frames = "".join(
        f'<iframe width="{w}" height="900" style="border:0" srcdoc="{escape(text)}"></iframe>'
        for w in WIDTHS
        for text in open_policy
    )
    wrapper = tmp_path / "wrapper.html"
    wrapper.write_text(MEASURE.format(frames=frames), "utf-8")
    dom = browse(
        tmp_path, "--window-size=2700,1000", "--virtual-time-budget=4000", "--dump-dom",
        f"file://{wrapper}",
    )  # fmt: skip
    found = re.search(r"MEASURED\n(.*?)\nEND", dom, flags=re.S)
    assert found, dom[-500:]
    return found[1].splitlines()


def test_nothing_sticks_out_at_any_width(known, tmp_path):
    names = ("rule3_better", "three_treatments", "rule0_few_pairs")
    lines = measured(tmp_path, *(page.render(known(name), version="1") for name in names))
    assert [line for line in lines if " out " in line] == []
    assert {tuple(map(int, line.split(" scroll "))) for line in lines} == {(w, w) for w in WIDTHS}


def test_long_names_break_instead_of_sticking_out(simulate, tmp_path):
    long = "W" * 300
    f = simulate(
        n_seeds=6, n_test=60, n_epochs=3, baseline=long, treatments=(f"{long}W",),
        experiment=long, claim=None, question=long, scores={long: 0.01},
        settings={long: {long: 0}, f"{long}W": {long: long}},
    ).findings()  # fmt: skip
    lines = measured(tmp_path, page.render(f, version="1"))
    assert [line for line in lines if " out " in line] == []


def test_dark_and_light_are_different_and_readable(known, tmp_path):
    html = page.render(known("rule3_better"), version="1")
    dark = html.replace('id="th-a" checked', 'id="th-a"')
    dark = dark.replace('id="th-d">', 'id="th-d" checked>')
    assert dark != html
    brightness = {}
    for theme, text in (("light", html), ("dark", dark)):
        source, shot = tmp_path / f"{theme}.html", tmp_path / f"{theme}.png"
        source.write_text(text, "utf-8")
        browse(tmp_path, "--window-size=800,1200", f"--screenshot={shot}", f"file://{source}")
        pixels = np.asarray(Image.open(shot).convert("L"), dtype=float)
        assert pixels.shape == (1200, 800)
        brightness[theme] = float(np.median(pixels))
        ink = np.abs(pixels - brightness[theme]) > 90  # text and lines, well apart from the paper
        assert 0.01 < ink.mean() < 0.4
    assert brightness["light"] > 240 > 60 > brightness["dark"]


def test_it_prints(known, tmp_path):
    source, paper = tmp_path / "report.html", tmp_path / "report.pdf"
    source.write_text(page.render(known("rule3_better"), version="1"), "utf-8")
    browse(tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={paper}", f"file://{source}")
    data = paper.read_bytes()
    assert data.startswith(b"%PDF-") and len(data) > 20_000
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", data)) <= 15
