"""`bench report` writes what is asked for, where it is asked to, and names what it wrote."""

import contextlib
import getpass
import gzip
import hashlib
import html
import io
import json
import re
import socket
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench import cli
from bench.reports.build import report
from bench.reports.formats import FORMATS
from bench.store.artifacts import Damaged
from bench.store.mlflow_store import Store

Bench = Callable[..., Any]
CSV = {"pairs.csv", "runs.csv", "curves.csv.gz", "reliability.csv"}


@pytest.fixture(scope="module")
def store(
    tmp_path_factory: pytest.TempPathFactory,
    write_tiny: Callable[..., Path],
    copy_store: Callable[[Path], str],
) -> str:
    """Train six pairs and return the store."""
    home = tmp_path_factory.mktemp("formats")
    mine, uri = write_tiny(home), copy_store(home / "store")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        words = ["run", str(mine), "--seeds", "6", "--store", uri, "--workers", "2", "-q"]
        assert cli._run([*words, "--no-report"]) == 0
    return uri


def artifacts(uri: str) -> dict[str, bytes]:
    """Return the parent run's report as MLflow holds it."""
    place = Store(uri)
    run = place.benchmark().run_id
    names = [file.path for file in place.client.list_artifacts(run)]
    return {
        name: Path(place.client.download_artifacts(run, name)).read_bytes()
        for name in names
        if name.startswith(("report", "results"))
    }


def names(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


# -- what is written --------------------------------------------------------------------------


def test_every_format_is_written_and_listed(store: str, tmp_path: Path, bench: Bench):
    said = bench("report", "--format", ",".join(FORMATS), "--out", tmp_path, "--json", "--store",
                 store)  # fmt: skip
    assert said.status == 0, said.err
    found = names(tmp_path)
    figures = {name for name in found if name.startswith("figures/")}
    assert found - figures == CSV | {"report.html", "results.json", "results.md", "results.tex"}
    assert {name[-4:] for name in figures} == {".svg", ".png"} and len(figures) >= 12
    assert {str(Path(p).relative_to(tmp_path)) for p in said.json["files"]} == found
    written = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert {**written, "files": said.json["files"]} == said.json


@pytest.mark.parametrize(
    ("formats", "expected"),
    [("csv", CSV), ("md", {"results.md"}), ("TEX, json", {"results.tex", "results.json"})],
)
def test_only_what_is_asked_for_is_written_and_its_paths_are_printed(
    store: str, tmp_path: Path, bench: Bench, formats: str, expected: set[str]
):
    said = bench("report", "--format", formats, "--out", tmp_path / "new", "--store", store)
    assert said.status == 0, said.err
    assert names(tmp_path / "new") == expected
    assert {Path(line) for line in said.out.splitlines()} == {
        tmp_path / "new" / name for name in expected
    }


def test_with_the_page_the_summary_comes_first_and_the_other_paths_follow(
    store: str, tmp_path: Path, bench: Bench
):
    said = bench("report", "--format", "html,md", "--out", tmp_path, "--store", store)
    lines = said.out.splitlines()
    assert lines[0].startswith("tiny ") and lines[-1] == str(tmp_path / "results.md")
    assert any(line.split()[:1] == ["report"] and "report.html" in line for line in lines)


def test_the_same_store_gives_the_same_bytes(store: str, tmp_path: Path, bench: Bench):
    for name in ("a", "b"):
        words = ("report", "--format", ",".join(FORMATS), "--out", tmp_path / name)
        assert bench(*words, "--store", store).status == 0
    found = names(tmp_path / "a")
    assert found == names(tmp_path / "b")
    differ = [
        n for n in found if (tmp_path / "a" / n).read_bytes() != (tmp_path / "b" / n).read_bytes()
    ]
    assert differ == []


def test_page_and_json_go_to_mlflow_whatever_the_folder_gets(
    store: str, tmp_path: Path, bench: Bench
):
    place = Store(store)
    run = place.benchmark().run_id
    place.client.set_tag(run, "mlflow.note.content", "old")
    assert bench("report", "--format", "md", "--out", tmp_path, "--store", store).status == 0
    held = artifacts(store)
    assert set(held) == {"report.html", "results.json"}
    assert json.loads(held["results.json"])["experiment"] == "tiny"
    note = place.client.get_run(run).data.tags["mlflow.note.content"]
    assert note.startswith("▲ **BETTER, provisional**") and "CI [" in note  # the verdict first
    assert "**Does more strength raise test accuracy?**" in note
    metrics = place.client.get_run(run).data.metrics
    pairs = json.loads(held["results.json"])["comparisons"][0]
    assert metrics["n_pairs"] == 6
    assert metrics["diff_pp"] == pytest.approx(100 * pairs["primary"]["difference"], rel=1e-12)


def test_the_pairs_are_read_back_by_compare(store: str, tmp_path: Path, bench: Bench):
    first = bench("report", "--format", "csv", "--json", "--out", tmp_path, "--store", store).json
    again = bench("compare", tmp_path / "pairs.csv", "--baseline", "baseline_value", "--treatment",
                  "treatment_value", "--pair", "seed", "--json").json  # fmt: skip
    (old,), (new,) = first["comparisons"], again["comparisons"]
    pairs = [said["summary"]["treatments"][0]["pairs"] for said in (first, again)]
    assert pairs[0]["baseline"] == pairs[1]["baseline"]
    t = [next(a for a in c["analyses"] if a["name"] == "paired_t") for c in (old, new)]
    assert (t[0]["low"], t[0]["high"], t[0]["p_value"]) == (
        t[1]["low"],
        t[1]["high"],
        t[1]["p_value"],
    )
    runs = bench("compare", tmp_path / "runs.csv", "--arm", "arm", "--metric", "accuracy", "--pair",
                 "seed", "--baseline", "weak", "--json").json  # fmt: skip
    assert runs["comparisons"][0]["primary"]["difference"] == new["primary"]["difference"]


def test_the_curves_hold_what_was_logged(store: str, tmp_path: Path, bench: Bench):
    assert bench("report", "--format", "csv", "--out", tmp_path, "--store", store).status == 0
    curves = pd.read_csv(tmp_path / "curves.csv.gz")
    assert len(curves) == 6 * 2 * 3 * 2
    losses = curves[curves.metric == "train/loss"].sort_values(["seed", "arm", "epoch"]).value
    assert losses.tolist() == [1.0, 0.5, 1 / 3] * 12


# -- refusals ---------------------------------------------------------------------------------


def test_an_unknown_format_is_refused_before_anything_is_read(bench: Bench, tmp_path: Path):
    store = f"sqlite:///{tmp_path}/x.db"
    said = bench("report", "digits", "--format", "html,pgn", "--store", store)
    assert said.status == 2 and said.out == ""
    assert said.err == (
        'error[format]: --format "pgn" is no format.\n'
        "  Formats: html, json, csv, md, tex, svg, png, or several as html,csv.\n"
        f"  fix: bench report digits --store {store} --format png\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(store: str, tmp_path: Path, bench: Bench):
    (tmp_path / "file").write_text("mine")
    said = bench("report", "--out", tmp_path / "file" / "below", "--json", "--store", store)
    assert said.status == 4 and said.json["error"]["code"] == "file"
    assert str(tmp_path / "file" / "below") in said.json["error"]["message"]
    assert " --out DIR\n" in said.err and "Traceback" not in said.err
    assert (tmp_path / "file").read_text() == "mine"


# -- the browser ------------------------------------------------------------------------------


def test_open_shows_the_page_in_the_browser(
    store: str, tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    opened: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)  # type: ignore[func-returns-value]
    said = bench("report", "--open", "--out", "a folder", "--store", store)
    assert said.status == 0 and said.err == ""
    assert opened == [(tmp_path / "a folder" / "report.html").as_uri()]


def test_without_a_browser_open_says_where_the_page_is(
    store: str, tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    said = bench("report", "--open", "--out", tmp_path, "--store", store)
    assert said.status == 0
    assert said.err == f"no browser could be opened; the report is {tmp_path / 'report.html'}\n"


def test_open_needs_the_page(bench: Bench):
    said = bench("report", "tiny", "--open", "--format", "csv,md")
    assert said.status == 2
    assert "error[option]: --open opens report.html, which --format csv,md does not" in said.err
    assert "fix: bench report tiny --open --format html,csv,md\n" in said.err


# -- double-blind review ----------------------------------------------------------------------


def test_an_anonymous_report_stays_in_its_folder_and_names_nobody(
    store: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    place = Store(store)
    benchmark = place.benchmark()
    session = {**place.provenance(benchmark)[0], "user": "jdoe42", "host": "titan07.example.edu"}
    session |= {"command": f"bench run {place.folder}/mine.py --data /scratch/jdoe42/faces"}
    monkeypatch.setattr(Store, "provenance", lambda *_: [session])
    assert bench("report", "--store", store).status == 0
    before, note = artifacts(store), place.client.get_run(benchmark.run_id).data.tags
    named = place.folder / "reports" / "tiny" / "report.html"
    page = named.read_bytes()
    assert b"jdoe42" in page and benchmark.run_id.encode() in page

    said = bench("report", "--anonymous", "--format", ",".join(FORMATS), "--json", "--store", store)
    assert said.status == 0, said.err
    folder = place.folder / "reports" / "tiny" / "anonymous"
    assert {Path(path) for path in said.json["files"]} == {folder / name for name in names(folder)}
    secrets = ["jdoe42", "titan07", "example.edu", "/scratch", str(place.folder), benchmark.run_id]
    secrets += [session["commit"][:10]] if session["commit"] else []
    secrets += [x for x in (socket.gethostname(), getpass.getuser()) if len(x) > 4]  # no syllable
    for name in names(folder):
        data = (folder / name).read_bytes()
        data = gzip.decompress(data) if name.endswith(".gz") else data
        assert [secret for secret in secrets if secret.encode() in data] == [], name
    shown = (folder / "results.md").read_text("utf-8")
    assert r"bench run \[path\] --data \[path 2\]" in shown
    assert artifacts(store) == before
    assert place.client.get_run(benchmark.run_id).data.tags == note
    assert named.read_bytes() == page


def test_an_anonymous_report_has_the_same_numbers_and_can_be_verified(
    store: str, tmp_path: Path, bench: Bench
):
    named = bench("report", "--json", "--out", tmp_path / "named", "--store", store).json
    hidden = bench("report", "--json", "--anonymous", "--out", tmp_path / "hidden", "--store",
                   store).json  # fmt: skip
    assert hidden["comparisons"] == named["comparisons"] and hidden["pairs"] == named["pairs"]
    assert not {"user", "host", "commit", "mlflow", "platform"} & set(hidden["provenance"])
    assert bench("verify", tmp_path / "hidden" / "report.html").status == 0


def test_a_report_can_be_made_without_the_command_line(store: str, tmp_path: Path):
    place = Store(store)
    done = report(place, place.benchmark(), out=tmp_path, formats=("svg",))
    assert done.html is None and {path.suffix for path in done.paths} == {".svg"}
    assert done.findings.design.experiment == "tiny"


def test_a_report_holds_the_digests_of_the_source_and_on_request_its_text(
    store: str, tmp_path: Path, bench: Bench
):
    place = Store(store)
    [(name, text)] = place.source(place.benchmark()).items()
    said = bench("report", "--json", "--out", tmp_path / "plain", "--store", store).json
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert said["provenance"]["source"] == [{"path": name, "sha256": digest}]
    page = (tmp_path / "plain" / "report.html").read_text("utf-8")
    assert f"{name} sha256 {digest[:12]}" in page and "Source of" not in page

    told = bench("report", "--json", "--source", "--out", tmp_path / "told", "--store", store).json
    assert told["provenance"]["source"] == [{"path": name, "sha256": digest, "text": text}]
    page = (tmp_path / "told" / "report.html").read_text("utf-8")
    [shown] = re.findall(rf"Source of {name}</summary><pre[^>]*>(.*?)</pre>", page, re.DOTALL)
    assert html.unescape(shown) == text.removeprefix("\n") and "<" not in shown
    assert bench("verify", tmp_path / "told" / "report.html").status == 0


def test_passwords_in_the_source_are_hidden(
    store: str, tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    text = "</pre><script>x</script>\n\tget('https://me:hunter2@example.org/d')\u202e\n"
    monkeypatch.setattr(Store, "source", lambda *_: {"a<b.py": text})
    assert bench("report", "--source", "--out", tmp_path, "--store", store).status == 0
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "hunter2" not in page and "\u202e" not in page and "<script>x" not in page
    assert "&lt;/pre&gt;" in page and "Source of a&lt;b.py" in page


def test_a_source_that_is_damaged_is_left_out_and_said(
    store: str, tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    def damaged(*_: Any) -> Any:
        raise Damaged("not what was recorded")

    monkeypatch.setattr(Store, "source", damaged)
    found = bench("report", "--json", "--out", tmp_path, "--store", store).json["provenance"]
    assert found["source"] == [] and "source files in the store" in " ".join(found["notes"])


def test_the_source_of_an_anonymous_report_is_refused(store: str, bench: Bench):
    said = bench("report", "--anonymous", "--source", "--store", store)
    assert said.status == 2 and "cannot be hidden" in said.err
    assert f"bench report --anonymous --store {store}" in said.err
