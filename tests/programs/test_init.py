"""`bench init`: a study from a script's own options, which are read and not run."""

import sys
import tomllib
from typing import Any

import pytest

from bench.programs.script_options import options_of

BEGIN = "raise SystemExit('this is run')\n"
SCRIPTS = {
    "argparse": """
import argparse
p = argparse.ArgumentParser()
p.add_argument("-s", "--seed", type=int, default=0)
p.add_argument("--lr", type=float, default=1e-3)
p.add_argument("--label-smoothing", type=float, default=0.0)
p.add_argument("--verbose", action="store_true")
p.add_argument("--out", default="metrics.json")
""",
    "click": """
import click
@click.command()
@click.option("--seed", default=0)
@click.option("--lr", default=1e-3, help="rate")
@click.option("--label-smoothing", default=0.0)
@click.option("--verbose", is_flag=True)
@click.option("--out", default="metrics.json")
def main(**kw): pass
""",
    "typer": """
import typer
app = typer.Typer()
@app.command()
def main(seed: int = 0, lr: float = typer.Option(1e-3), label_smoothing: float = 0.0,
         verbose: bool = False, out: str = "metrics.json"): pass
""",
    "fire": """
import fire
def main(seed=0, lr=1e-3, label_smoothing=0.0, verbose=False, out="metrics.json"): pass
fire.Fire(main)
""",
}


@pytest.mark.parametrize("kind", SCRIPTS)
@pytest.mark.sample(4)
def test_the_options_of_each_library_become_a_study(kind: str, folder: Any):
    (folder.path / "train.py").write_text(BEGIN + SCRIPTS[kind])
    assert folder.bench("init", "train.py").status == 0
    said = tomllib.loads((folder.path / "study.toml").read_text())
    assert said["settings"] == {"lr": 0.001}
    assert said["arms"] == {
        "baseline": {"label_smoothing": 0.0}, "changed": {"label_smoothing": 0.1}
    }  # fmt: skip
    option = "label_smoothing" if kind == "fire" else "label-smoothing"
    assert f"--{option} {{label_smoothing}} --lr {{lr}}" in said["command"]
    assert said["command"].endswith("--seed {seed} --out {out}/metrics.json")


def test_hydras_configuration_is_read(folder: Any):
    (folder.path / "conf").mkdir()
    (folder.path / "conf/config.yaml").write_text("seed: 0\nlr: 0.1\nmodel: {depth: 3}\n")
    (folder.path / "train.py").write_text(
        BEGIN + "import hydra\n@hydra.main(config_path='conf', config_name='config')\n"
        "def main(cfg): pass\n"
    )
    assert folder.bench("init", "train.py").status == 0
    said = tomllib.loads((folder.path / "study.toml").read_text())
    assert said["command"] == "python train.py lr={lr} seed={seed}"


def test_what_is_written_runs_as_it_is(folder: Any):
    folder.write('json.dump({"accuracy": accuracy}, open(args.out + "/metrics.json", "w"))')
    assert folder.bench("init", "train.py").status == 0
    path = folder.path / "study.toml"
    path.write_text(path.read_text().replace('"python ', f'"{sys.executable} '))
    assert folder.run("study.toml", seeds=2).status == 0
    assert [own["x"] for own in folder.store.benchmark().plan.arms.values()] == [0.0, 0.1]


def test_nothing_is_overwritten(folder: Any):
    folder.write("")
    (folder.path / "study.toml").write_text("mine")
    said = folder.bench("init", "train.py")
    assert said.status == 2
    assert "study.toml is there already" in said.err
    assert "bench init train.py --out study-2.toml" in said.err
    assert (folder.path / "study.toml").read_text() == "mine"


def test_a_file_that_cannot_be_written_is_refused(folder: Any):
    folder.write("")
    said = folder.bench("init", "train.py", "--out", "no/such/x.toml")
    assert said.status == 2
    assert "no/such/x.toml cannot be written: no such file or directory." in said.err


def test_options_that_are_called_like_fields_are_settings_of_another_name(folder: Any):
    folder.write(
        'json.dump({"accuracy": accuracy}, open(args.out + "/metrics.json", "w"))',
        head=folder.head.replace(
            "args =", 'parser.add_argument("--device", default="cpu")\nargs ='
        ),
    )
    assert folder.bench("init", "train.py").status == 0
    path = folder.path / "study.toml"
    assert "--device {own_device}" in path.read_text()
    path.write_text(path.read_text().replace('"python ', f'"{sys.executable} '))
    assert folder.run("study.toml", "--dry-run").status == 0


def test_a_study_in_another_folder_finds_the_script(folder: Any):
    folder.write("")
    (folder.path / "sub").mkdir()
    assert folder.bench("init", "train.py", "--out", "sub/study.toml").status == 0
    assert '"python ../train.py' in (folder.path / "sub/study.toml").read_text()


def test_numbers_that_toml_writes_otherwise_and_arguments_by_place(folder: Any):
    (folder.path / "t.py").write_text(
        "p.add_argument('data')\np.add_argument('--seed')\n"
        "p.add_argument('--top', default=1e999)\np.add_argument('--dropout', default=0.5)\n"
    )
    assert folder.bench("init", "t.py").status == 0
    said = tomllib.loads((folder.path / "study.toml").read_text())
    assert said["settings"] == {"top": float("inf"), "own_data": ""}
    assert said["arms"]["changed"] == {"dropout": 0.25}
    assert "{own_data}" in said["command"]


def test_names_that_typer_is_told_and_functions_that_fire_finds(folder: Any):
    (folder.path / "t.py").write_text(
        "import typer\napp = typer.Typer()\n@app.command()\n"
        "def main(seed: int = 0, lr: float = typer.Option(0.1, '--rate')): pass\n"
    )
    assert [o.typed for o in options_of(folder.path / "t.py")] == ["--seed", "--rate"]
    (folder.path / "f.py").write_text("import fire\ndef train(seed=0, lr=0.1): pass\nfire.Fire()\n")
    assert [o.name for o in options_of(folder.path / "f.py")] == ["seed", "lr"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("print(1)", "has no option for its seed"),
        ("def f(:", "is no Python"),
        ("p.add_argument('--seed', type=int)", "that two arms could differ in"),
    ],
)
@pytest.mark.sample(3)
def test_a_script_that_makes_no_study_is_refused(text: str, told: str, folder: Any):
    (folder.path / "train.py").write_text(text)
    said = folder.bench("init", "train.py")
    assert said.status == 5
    assert told in said.err


def test_an_option_that_is_required_is_in_the_command(folder: Any, tmp_path: Any):
    (folder.path / "t.py").write_text("p.add_argument('--data', required=True)\n")
    [option] = options_of(folder.path / "t.py")
    assert (option.name, option.words) == ("data", "--data {data}")
