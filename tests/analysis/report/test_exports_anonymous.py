"""For double-blind review: who made it, and where, is in no file; every number stays."""

import gzip
import json
import re

import pytest

from bench.analysis.report import html, latex, markdown
from bench.analysis.report.anonymous import Veil, anonymous
from bench.analysis.report.csv_files import sheets
from bench.analysis.report.document import document
from bench.analysis.report.names import fitted
from bench.analysis.report.pictures import pictures
from bench.analysis.report.verify import verify

USER, HOST, HOME = "jdoe42", "titan07.cs.example.edu", "/home/jdoe42/My Papers"
COMMIT, RUN = "96cf1b985abb892bd9cd978415ee379b97ffe82a", "038f63520cd84d28b020f17972617e34"
SECRETS = (USER, "titan07", "example.edu", "My Papers", "/home", "/scratch", "C:\\Users", "sk-team",
           COMMIT, COMMIT[:10], RUN, "10.20.30.40", "6.1.0-titan")  # fmt: skip
KNOWN = {USER: "user", HOST: "host", "titan07": "host", HOME: "path", COMMIT: "commit", RUN: "run"}
EVERYWHERE = f"{USER} on {HOST} in {HOME}/run, see git@github.com:{USER}/sk-team.git ({COMMIT})"


@pytest.fixture(scope="module")
def planted(simulate):
    """Return a study with a user, a host and paths in every place that can hold them."""
    arms = {"baseline": f"{HOME}/base.yaml", "treatments": (f"{USER}-trick", "/scratch/b c")}
    s = simulate(
        n_seeds=8, n_test=80, n_epochs=3, effect=(0.05, 0.0), failed={("/scratch/b c", 3)},
        experiment=f"exp of {USER}", question=f"Does {USER}'s trick on {HOST} help?",
        scores={f"score/{USER}": 0.01, "/scratch/m": 0.01}, **arms,
        settings={
            arm: {"weights": f"{HOME}/w {i}.pt", "out": "C:\\Users\\jdoe\\x", f"{USER}_lr": i,
                  "url": f"https://{HOST}/sk-team", "note": EVERYWHERE}
            for i, arm in enumerate((arms["baseline"], *arms["treatments"]))
        },
    )  # fmt: skip
    environments = [
        json.dumps({"torch": "2.9", "commit": COMMIT if i % 2 else "f" * 40})
        for i in range(len(s.tables.trials))
    ]
    trials = s.tables.trials.assign(
        device=f"{HOST}/cuda:0",
        environment=environments,
        reason=f"OSError: [Errno 2] no such file: '{HOME}/data set/x.npy' at tcp://10.20.30.40:8786",
    )
    epochs = s.tables.epochs.rename(columns={"train/loss": f"loss/{USER}"})
    facts = {
        **s.provenance,
        "user": USER,
        "host": HOST,
        "platform": "Linux-6.1.0-titan-x86_64",
        "commit": COMMIT,
        "dirty": True,
        "diff_sha256": "e" * 64,
        "command": f"bench run {HOME.replace(' ', '_')}/exp.py --data /scratch/d --store "
        f"postgresql://{USER}@{HOST}/db",
        "notes": [EVERYWHERE, f"Weights from {HOME}/w.pt."],
        "processor": f"cpu of {HOST}",
        "devices": [f"{HOST}: cuda:0"],
        "data": {"name": f"faces of {USER}", "path": "/scratch/faces", "digest": "1bb41b98",
                 "where": {"host": HOST, "server": f"smb://{HOST}/x"}},
        "mlflow": f"experiment 1, parent run {RUN}",
    }  # fmt: skip
    return s.changed(trials=trials, epochs=epochs, provenance=facts)


@pytest.fixture(scope="module")
def files(planted):
    veil = Veil({**KNOWN, "f" * 40: "commit"})
    f = anonymous(planted.findings(), veil)
    trail = [line[:2] for line in html.audit_trail(fitted(f))]
    found = {
        "report.html": html.render(f, version="1"),
        "results.json": json.dumps(f.as_dict(), ensure_ascii=False),
        "results.md": markdown.results(f, trail=trail),
        "results.tex": latex.results(f, version="1"),
    }
    for name, data in sheets(planted.findings(), planted.tables, veil).items():
        found[name] = (gzip.decompress(data) if name.endswith(".gz") else data).decode()
    for picture in pictures(fitted(f)):
        found[f"{picture.name}.svg"] = picture.svg
    return f, found


def test_the_planted_study_would_give_everything_away(planted):
    text = html.render(planted.findings(), version="1") + json.dumps(planted.findings().as_dict())
    assert [secret for secret in SECRETS if secret not in text and secret != "C:\\Users"] == []


@pytest.mark.parametrize("secret", SECRETS)
def test_no_file_holds_what_identifies(files, secret):
    _, found = files
    assert [name for name, text in found.items() if secret.lower() in text.lower()] == []


def test_every_number_stays(planted, files):
    def numbers(value):
        if isinstance(value, dict):
            return [numbers(item) for item in value.values()]
        if isinstance(value, list):
            return [numbers(item) for item in value]
        return None if isinstance(value, str) else value

    f, _ = files
    old, new = planted.findings().as_dict(), f.as_dict()
    del old["provenance"], new["provenance"]
    assert numbers(old) == numbers(new)


def test_arms_stay_apart_and_are_the_same_in_every_place(files):
    f, found = files
    base, trick, other = f.design.arms
    assert (trick, other) == ("[user]-trick", "[path 2]") and base.startswith("[path")
    assert [arm.name for arm in f.arms] == [base, trick, other]
    assert [c.treatment for c in f.comparisons] == [trick, other]
    assert {run.arm for run in f.runs} == {base, trick, other}
    assert f.comparisons[0].verdict.headline.startswith("[user]-trick ")
    assert f"{other} from {base}" in f.comparisons[1].verdict.headline
    rows = [line.split(",") for line in found["pairs.csv"].splitlines()[1:]]
    assert {(row[1], row[2]) for row in rows} == {(base, trick), (base, other)}
    assert len({line.split(",")[1] for line in found["runs.csv"].splitlines()[1:]}) == 3


def test_an_anonymous_report_can_still_be_verified(files):
    f, _ = files
    assert verify(json.dumps(document(f, version="1")), version="1").holds


def test_what_does_not_identify_is_still_said(files):
    f, found = files
    p = f.provenance
    assert p["packages"] and p["python"] and p["dirty"] is True and p["data"]["digest"]
    hidden = r"bench run \[path \d+\] --data \[path \d+\] --store \[address \d+\]"
    assert re.fullmatch(hidden, p["command"])
    check = next(check for check in f.checks if check.id == "C12")
    assert "uncommitted changes" in check.text and "uncommitted changes" in found["report.html"]
    assert "Errno 2" in found["runs.csv"]


def test_a_study_without_secrets_is_left_as_it_is(known):
    f = known("rule3_better")
    hidden = anonymous(f, Veil(KNOWN))
    old, new = f.as_dict(), hidden.as_dict()
    for gone in ("commit", "mlflow"):
        del old["provenance"][gone]
    assert new == old


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("val/accuracy, 1/2, 30 images/s, ~5 min, and/or", None),
        ("recall@10 and mAP@0.5", None),
        ("adamw with jdoe421's settings", None),
        ("torch 2.15.0, cuda:0", None),
        ("jdoe42_lab", "[user]_lab"),
        (f"{COMMIT} or {COMMIT[:8]}", "[commit] or [commit 2]"),
        ("JDOE42 and Jdoe42-x", "[user] and [user]-x"),
        ("open('/a b/c')", "open('[path]')"),
        ('File "/a/b.py", line 3', 'File "[path]", line 3'),
        ("--data=~/d", "--data=[path]"),
        ("~alice/x", "[path]"),
        ("D:\\x\\y z", "[path]"),
        ("\\\\server\\share\\x", "[path]"),
        ("(/a/b), /c/d;", "([path]), [path 2];"),
        ("/a/b and /a/b and /A/B", "[path]"),
        ("see /a/b and /a/b.", "see [path] and [path]."),
        ("at https://x.example/y: gone", "at [address]: gone"),
        ("sqlite:////home/x/m.db", "[address]"),
        ("mail jane@uni.example.org", "mail [address]"),
        ("scp bob@node:x/y", "scp [address]"),
        ("at 10.0.0.1:80", "at [address]:80"),
        (f"{HOME}/run 3", "[path]"),
        (f"in {HOME}/run", "in [path]"),
        ("titan07: ok; titan07.cs.example.edu: ok", "[host 2]: ok; [host]: ok"),
    ],
)
def test_the_veil_hides_paths_names_and_addresses_and_nothing_else(text, shown):
    assert Veil(KNOWN)(text) == (text if shown is None else shown)


def test_a_name_that_is_a_path_is_the_same_within_a_sentence():
    veil = Veil({})
    assert veil("/data/x y") == "[path]"
    assert veil("These cannot tell /data/x y from baseline.") == (
        "These cannot tell [path] from baseline."
    )
    assert veil("Nor baseline from /Data/x y.") == "Nor baseline from [path]."
    assert veil("in /data/x y/below and /data/x yes") == "in [path 2] and [path 3] yes"


@pytest.mark.parametrize("name", ["none", "better", "two_way", "root", "ece", "finished", "me"])
def test_a_user_named_like_a_word_of_ours_changes_no_word(known, name):
    f = known("rule3_better")
    hidden = anonymous(f, Veil({name: "user"}))
    assert hidden.comparisons == f.comparisons and hidden.runs == f.runs
