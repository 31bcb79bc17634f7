"""Studies of commands: study.toml, typed arms, commits, and what makes a run what it is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import bench
from bench.analysis.errors import Refusal
from bench.design.study import experiment_of
from bench.programs.code_files import code_files
from bench.programs.study_file import Placed, Study, placed, schema

SCORES = 'json.dump({"accuracy": accuracy}, open(args.out + "/metrics.json", "w"))\n'
ROOT = Path(__file__).parents[2]


def git(*words: str) -> None:
    who = ("-c", "user.name=n", "-c", "user.email=n@localhost")
    subprocess.run(["git", *who, *words], check=True, capture_output=True)


# -- study.toml ------------------------------------------------------------------------------


def test_a_study_file_trains_its_arms_and_the_same_command_trains_nothing_twice(folder):
    folder.write(f'open("runs", "a").write("x"); {SCORES}')
    study = folder.study("question = 'Does more help?'\nmetric = 'accuracy'\nmargin = '0.1pp'")
    assert folder.run(study).status == 0
    assert folder.run(study).status == 0
    assert (folder.path / "runs").read_text() == "x" * 6
    plan = folder.store.benchmark().plan
    assert (plan.experiment, plan.question, plan.margin) == ("tried", "Does more help?", 0.001)
    assert {arm: own["x"] for arm, own in plan.arms.items()} == {"base": 0.0, "more": 0.01}


def test_settings_and_further_arms_are_typed_on_top_of_a_study(folder):
    folder.write(SCORES)
    study = folder.study("settings.lr = 0.1", command="train.py")
    said = folder.run(study, "--set", "lr=0.2", "--arm", "most:x=0.02", seeds=2)
    assert said.status == 0, said.err
    arms = folder.store.benchmark().plan.arms
    assert [own["x"] for own in arms.values()] == [0.0, 0.01, 0.02]
    assert {own["lr"] for own in arms.values()} == {0.2}


def test_a_study_says_how_many_seeds_which_goal_and_how_long_where_nothing_is_typed(folder):
    folder.write(SCORES)
    study = folder.study("seeds = 4\ngoal = 'not-worse'\nmargin = '0.5pp'\ntimeout_min = 5.0")
    assert folder.bench("run", study).status == 0
    plan = folder.store.benchmark().plan
    assert (len(plan.seeds), plan.goal) == (4, "not_worse")


def test_every_arm_and_seed_is_trained_on_every_data_set(folder):
    folder.write(
        f"""
        assert os.environ["BENCH_DATASET"] in ("cifar", "svhn"), os.environ["BENCH_DATASET"]
        {SCORES}"""
    )
    study = folder.study("datasets.names = ['cifar', 'svhn']")
    assert folder.run(study, seeds=2).status == 0
    assert len(folder.store.settled(folder.store.benchmark())[0]) == 8


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("comand = 'x'", 'study.toml, line 3: there is no key "comand".\n  Closest: command.'),
        ("devices = 'two'", "study.toml, line 3: devices is 'two'"),
        ("[settings\n", "study.toml is no TOML"),
        ("margin = -1.0", "margin is -1.0"),
        ("read.acc = 'acc: [0-9]+'", "has no group that holds the number"),
        ("read.acc = 'acc: ('", "is no regular expression"),
        ("append = '--s {sed}'", "{sed} in the command of 'base' is no field."),
        ('append = "\'"', "the command cannot be split into words: No closing quotation."),
        ("append = '&& true'", "&& in the command of 'base' is for a shell, and none is started."),
        ("append = '{data}'\nsettings.data = 'a'", "is filled in by bench, and a setting has"),
    ],
)
@pytest.mark.sample(10)
def test_what_makes_no_study_is_refused_with_its_line(folder, text, told):
    folder.write(SCORES)
    said = folder.run(folder.study(text))
    assert said.status == 2
    assert told in said.err
    assert "Traceback" not in said.err


def test_a_study_without_a_second_arm_or_a_command_is_refused(folder):
    (folder.path / "one.toml").write_text('command = "true {seed}"\n[arms.base]\nx = 1\n')
    assert "one has 1 arm; a comparison needs two" in folder.run("one.toml").err
    (folder.path / "none.toml").write_text("[arms.base]\nx = 1\n[arms.more]\nx = 2\n")
    assert "arm 'base' has no command" in folder.run("none.toml").err
    said = folder.run("nothing.toml")
    assert "there is no file nothing.toml" in said.err
    assert "In its folder: none.toml, one.toml." in said.err


def test_the_published_schema_is_that_of_the_code():
    assert json.loads((ROOT / "docs/study.schema.json").read_text()) == schema()


def test_bench_run_in_python_takes_a_study(folder):
    folder.write(SCORES)
    found = bench.run(folder.study(), seeds=6, store=folder.uri)
    assert found["more"].n == 6


# -- typed arms ------------------------------------------------------------------------------


def test_a_name_may_be_typed_and_is_else_that_of_the_script(folder):
    folder.write(SCORES)
    assert folder.typed(seeds=1).status == 0
    assert folder.store.benchmark().name == "train"
    assert folder.typed("my trial", seeds=1).status == 0
    assert folder.store.benchmark().name == "my trial"


def test_a_metric_that_its_name_says_is_a_loss_is_better_when_lower(folder):
    folder.write('print("rmse", accuracy, "gain", accuracy)')
    assert folder.typed("--metric", r"rmse=rmse ([\d.]+)", seeds=1).status == 0
    assert not folder.store.benchmark().plan.higher_is_better
    words = ("other", "--metric", r"gain=gain ([\d.]+)", "--lower-is-better")
    assert folder.typed(*words, seeds=1).status == 0
    assert not folder.store.benchmark().plan.higher_is_better


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--arm", "base=train"), "one command, 'base', is no comparison"),
        (("--arm", "base=a", "--arm", "base=b"), "arm 'base' is there already"),
        (("--arm", "=a", "--arm", "base=b"), "has no name"),
        (("--arm", "base=", "--arm", "more=b"), "names no command"),
        (("--arm", "base@git:main", "--arm", "more@git:."), "what is run there is not said"),
        (("digits", "--append", "--x 1"), "--append is for commands, and digits is trained by"),
        (("--metric", "accuracy"), "--metric is for commands"),
        (("--arm", "a=x", "--arm", "b=y", "--metric", "=1"), "is neither NAME nor NAME=REGEX"),
        (("--arm", "a=x", "--arm", "b=y", "--set", "lr"), "is not KEY=VALUE"),
        (("--arm", "a=x", "--arm", "b=y", "--arm", "c:x=1"), "each arm here has its own"),
        (("--arm", "a=x", "--arm", "b=y", *("--metric", "f=a", "--metric", "f=b")), "twice"),
        (("--arm", "a=LR=1 x", "--arm", "b=y"), "fix: env LR=1 x"),
        (("--arm", "a=x >log", "--arm", "b=y"), ">log in the command of 'a' is for a shell"),
    ],
)
@pytest.mark.sample(13)
def test_arms_that_cannot_be_read_are_refused(folder, words, told):
    said = folder.run(*words)
    assert said.status == 2
    assert told in said.err


# -- what is read -----------------------------------------------------------------------------


def test_predictions_give_the_interval_for_new_examples_too(folder):
    folder.write(
        """
        import numpy as np
        rng = np.random.default_rng(1000 * args.seed + 1)
        labels = np.arange(200) % 3
        logits = rng.normal(size=(200, 3)) + (1 + 20 * args.x) * np.eye(3)[labels]
        np.savez(args.out + "/predictions.npz", logits=logits, labels=labels)
        """
    )
    said = folder.run(folder.study(), "--json", seeds=6)
    assert said.status == 0, said.err
    assert said.json["comparisons"][0]["primary"]["method"] == "two_way"


def test_examples_and_their_clusters_are_units(folder):
    folder.write(
        """
        with open(args.out + "/examples.csv", "w") as f:
            f.write("id,passage,bleu\\n")
            for i in sorted(range(40), key=lambda _: draw.random()):
                f.write(f"{i},p{i // 4},{draw.gauss(args.x, 1)}\\n")
        """
    )
    said = folder.run(folder.study("metric = 'bleu'\ncluster = 'passage'"), "--json", seeds=6)
    assert said.status == 0, said.err
    assert said.json["plan"]["units"]["cluster"] == "passage"


def test_other_test_examples_at_each_seed_are_no_common_ones(folder):
    folder.write(
        """
        with open(args.out + "/examples.csv", "w") as f:
            f.write("id,bleu\\n")
            for i in draw.sample(range(100), 40):
                f.write(f"{i},{draw.gauss(args.x, 1)}\\n")
        """
    )
    said = folder.run(folder.study("metric = 'bleu'"))
    assert said.status == 3
    assert "its test examples, or their order, are not those of seed 0" in said.err


def test_a_script_that_logs_to_mlflow_by_itself_is_read(folder, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "7")
    folder.write(
        """
        import warnings
        warnings.simplefilter("ignore")
        import mlflow
        with mlflow.start_run():
            for epoch in range(2):
                mlflow.log_metric("accuracy", accuracy, step=epoch)
        """
    )
    said = folder.typed(seeds=1)
    assert said.status == 0, said.err
    assert [row["epoch"] for row in folder.epochs()] == [0, 1]


def test_streams_that_the_script_writes_are_compared(folder):
    folder.write(
        f"""
        json.dump({{"order": str(args.seed)}}, open(args.out + "/streams.json", "w"))
        {SCORES}"""
    )
    said = folder.run(folder.study(), "--json", seeds=6)
    checks = {check["id"]: check for check in said.json["checks"]}
    assert checks["C17"]["state"] == "passed"


# -- what makes a run what it is ----------------------------------------------------------------


def test_a_readme_or_what_trainings_write_begins_no_new_benchmark_and_code_does(folder):
    git("init")
    folder.write(f'open(f"log-{{args.seed}}.json", "w").write("{{}}"); {SCORES}')
    study = folder.study()
    (folder.path / ".gitignore").write_text("mlruns/\n")
    git("add", "-A")
    git("commit", "-m", "first")
    assert folder.run(study, seeds=1).status == 0
    first = folder.store.benchmark().benchmark_id
    (folder.path / "README.md").write_text("new")
    assert folder.run(study, seeds=2).status == 0
    assert folder.store.benchmark().benchmark_id == first
    folder.write(f"x = 1; {SCORES}")
    said = folder.run(study, seeds=1)
    assert "train.py" in said.err
    assert folder.store.benchmark().benchmark_id != first


def test_a_module_or_configuration_beside_the_script_makes_a_run_too(folder):
    folder.write(SCORES)
    (folder.path / "conf").mkdir()
    (folder.path / "conf/a.yaml").write_text("a: 1")
    study = folder.study()
    assert folder.run(study, seeds=1).status == 0
    (folder.path / "conf/a.yaml").write_text("a: 2")
    said = folder.run(study, seeds=1)
    assert "conf/a.yaml" in said.err
    (folder.path / "conf/a.yaml").write_text("a: 3")
    said = folder.run(folder.study("ignore = ['conf/*']"), seeds=1)
    assert len(folder.store.benchmarks()) == 3


def test_code_counts_in_folders_of_any_name_submodules_and_beside_the_script(folder):
    script = folder.write(SCORES, "src/train.py")
    others = ["src/env/net.py", "src/clone/net.py"]
    for name in [*others, "src/.venv/site.py", "src/.venv/pyvenv.cfg", "conf/other.yaml"]:
        folder.write("", name, head="")
    git("init", "-q", "src/clone")
    study = Placed(Study(), str(folder.path))
    command = {"base": f"python --cfg {folder.path}/conf/other.yaml {script}"}
    expected = {"src/train.py", "conf/other.yaml"}
    assert {*code_files(study, command)} >= expected | {*others}
    git("init", "-q", "src")
    found = {*code_files(study, command)}
    assert found == expected | {*others}


def test_code_that_is_edited_while_it_trains_ends_the_benchmark(folder):
    folder.write(f'open("train.py", "a").write("#\\n") if args.seed == 1 else 0; {SCORES}')
    said = folder.run(folder.study(), seeds=4)
    assert said.status == 3
    assert "train.py changed while the benchmark trained" in said.err


def test_configuration_that_trainings_write_is_a_caution_with_its_name(folder):
    (folder.path / "last.json").write_text("{}")
    folder.write(f'open("last.json", "w").write(str(args.seed)); {SCORES}')
    said = folder.run(folder.study(), "--json", seeds=6)
    assert said.status == 0, said.err
    checks = {check["id"]: check for check in said.json["checks"]}
    assert "last.json changed while the runs were trained" in checks["C26"]["text"]


def test_a_dry_run_trains_one_baseline_to_its_end_and_records_nothing(folder):
    folder.write(f'open("runs", "a").write("x"); {SCORES}')
    said = folder.run(folder.study(), "--dry-run", seeds=5)
    assert said.status == 0, said.err
    assert "10 of 10 to train" in said.out
    assert (folder.path / "runs").read_text() == "x"
    folder.write('print("nothing")')
    said = folder.run(folder.study(), "--dry-run", seeds=5)
    assert 'no "accuracy" was found' in said.err


def test_a_dry_run_says_that_a_new_benchmark_would_begin(folder):
    folder.write(SCORES)
    assert folder.run(folder.study(), seeds=1).status == 0
    folder.write(f"x = 1; {SCORES}")
    said = folder.run(folder.study(), "--dry-run", seeds=1)
    assert "Different: the experiment's source (train.py)." in " ".join(said.err.split())
    assert "2 of 2 to train" in said.out


def test_doctor_says_whether_a_seed_repeats_and_matters(folder):
    folder.write(SCORES)
    said = folder.bench("doctor", folder.study())
    assert said.status == 0, said.out + said.err
    assert "the same bits" in said.out
    assert "another seed gives other results in every arm" in said.out
    assert "what programs read beside their code and configuration is not seen" in " ".join(
        said.out.split()
    )
    assert "leftovers" not in said.out
    folder.write(f"accuracy = 0.5; {SCORES}")
    said = folder.bench("doctor", folder.study())
    assert said.status == 4
    assert "ignores the seed" in " ".join(said.out.split())
    folder.write(f"accuracy = random.random(); {SCORES}")
    said = folder.bench("doctor", folder.study())
    assert said.status == 4
    assert "gives other bits when trained again" in said.out


def test_a_command_without_its_seed_is_noted(folder):
    folder.write(f'assert os.environ["BENCH_SEED"]; {SCORES}')
    words = [f"{sys.executable} train.py --x {x} --out {{out}}" for x in (0, 1)]
    said = folder.run("--arm", f"a={words[0]}", "--arm", f"b={words[1]}", seeds=1)
    assert "No {seed} in the command of a, b: it has BENCH_SEED alone." in said.err


def test_another_metric_does_not_take_over_what_the_file_says_of_its_own(folder):
    folder.write(f'print("loss", 1); {SCORES}')
    study = folder.study("metric = 'accuracy'\nhigher_is_better = true\nmargin = 0.01")
    assert folder.run(study, "--metric", "loss=loss (.)", seeds=1).status == 0
    plan = folder.store.benchmark().plan
    assert (plan.metric, plan.higher_is_better, plan.margin) == ("loss", False, None)


def test_a_setting_that_no_command_has_is_noted(folder):
    folder.write(SCORES)
    said = folder.run(folder.study("settings.lr = 0.1"), seeds=1)
    assert "No {lr} in the command of base, more: it has BENCH_SETTINGS alone." in said.err


def test_what_runs_is_no_setting(folder):
    folder.write(SCORES)
    study = folder.study()
    for words in (("--set", "command=true"), ("--arm", "less:x=1,command=true")):
        said = folder.run(study, *words)
        assert said.status == 2
        assert "command is no setting." in said.err


def test_a_direction_that_no_name_tells_is_noted(folder):
    folder.write(
        'json.dump({"drag": accuracy, "valLoss": 1}, open(args.out + "/metrics.json", "w"))'
    )
    note = "Higher drag is taken to be better; else: --lower-is-better."
    assert note in folder.run(folder.study("metric = 'drag'"), seeds=1).err
    assert "is taken" not in folder.run(folder.study("metric = 'valLoss'"), seeds=1).err
    assert not folder.store.benchmark().plan.higher_is_better


def test_shell_is_used_only_where_it_is_asked_for(folder):
    folder.write(SCORES)
    text = folder.path / "study.toml"
    folder.study("shell = true\nappend = '&& echo $BENCH_SEED'\nread.seed = '^(\\d+)$'")
    assert folder.run(text, seeds=2).status == 0
    assert folder.values("base", "seed") == [0.0, 1.0]


# -- commits ------------------------------------------------------------------------------------


@pytest.fixture
def repository(folder):
    """Return a repository with a branch `base`, a better `master` and a study."""
    git("init", "-b", "master")
    folder.write(f"from mylib import gain\naccuracy += gain() * draw.uniform(.5, 1.5)\n{SCORES}")
    (folder.path / "mylib.py").write_text("def gain(): return 0.0\n")
    (folder.path / ".gitignore").write_text("mlruns/\n__pycache__/\ndata/\n")
    words = f"{sys.executable} train.py --seed {{seed}} --out {{out}}"
    (folder.path / "study.toml").write_text(f"name = 'commits'\ncommand = {words!r}\n")
    git("add", "-A")
    git("commit", "-m", "first")
    git("branch", "base")
    (folder.path / "mylib.py").write_text("def gain(): return 0.01\n")
    git("commit", "-am", "better")
    return folder


def means(folder) -> dict[str, float]:
    return {a: sum(folder.values(a)) / len(folder.values(a)) for a in ("main", "pr")}


def test_commits_are_trained_without_touching_the_checkout(repository):
    (repository.path / "mylib.py").write_text("def gain(): return 0.05\n")
    before = subprocess.run(["git", "status", "--short"], capture_output=True, text=True).stdout
    arms = ("--arm", "main@git:base", "--arm", "old@git:master", "--arm", "pr@git:.")
    said = repository.run("study.toml", *arms)
    assert said.status == 0, said.err
    found = means(repository)
    assert 0.03 < found["pr"] - found["main"] < 0.08
    assert 0.005 < sum(repository.values("old")) / 3 - found["main"] < 0.02
    after = subprocess.run(["git", "status", "--short"], capture_output=True, text=True).stdout
    assert before == after
    listed = subprocess.run(["git", "worktree", "list"], capture_output=True, text=True).stdout
    assert len(listed.splitlines()) == 1
    assert "main to pr: 1 file changed, 1 insertion(+), 1 deletion(-): mylib.py." in said.err
    page = (repository.path / "mlruns/reports/commits/report.html").read_text()
    assert "Paired by seed, which the programs get; batches not compared." in page
    assert "1 file changed" in page
    arms_now = repository.store.benchmark().plan.arms
    assert arms_now["pr"]["commit"].partition("+")[0] == arms_now["old"]["commit"]


def test_the_baselines_runs_are_taken_over_for_the_next_change(repository):
    arms = ("--arm", "main@git:base", "--arm", "pr@git:.")
    assert repository.run("study.toml", *arms).status == 0
    (repository.path / "mylib.py").write_text("def gain(): return 0.05\n")
    said = repository.run("study.toml", *arms, "--json")
    assert said.status == 0
    assert means(repository)["pr"] - means(repository)["main"] > 0.03
    assert len(repository.store.benchmarks()) == 2
    notes = [check["text"] for check in said.json["checks"] if check["id"] == "N7"]
    assert notes and "3 runs of main were trained for benchmark" in notes[0]
    runs = repository.store.tables(repository.store.benchmark()).trials
    assert runs.groupby("arm").size().to_dict() == {"main": 3, "pr": 3}


def test_an_edit_of_the_checkout_in_mid_run_is_refused(repository):
    repository.write(
        "open(os.environ['HERE'] + '/mylib.py', 'a').write('#') if args.seed == 1 else 0\n" + SCORES
    )
    os.environ["HERE"] = str(repository.path)
    try:
        said = repository.run("study.toml", "--arm", "main@git:base", "--arm", "pr@git:.", seeds=4)
    finally:
        del os.environ["HERE"]
    assert said.status == 3
    assert "the checkout of arm pr changed while the benchmark trained" in said.err


def test_code_of_the_checkout_in_a_commits_training_is_refused(repository):
    repository.write(f"sys.path.insert(0, {str(repository.path)!r})\nimport mylib\n{SCORES}")
    git("commit", "-am", "leads astray")
    (repository.path / "mylib.py").write_text("def gain(): return 0.05\n")
    said = repository.run("study.toml", "--arm", "main@git:master", "--arm", "pr@git:.")
    assert said.status in (3, 5)
    assert "arm 'main' has trained code of the checkout, not of its commit: mylib.py" in said.err


def test_setup_runs_once_a_commit_and_links_bring_ignored_folders(repository):
    (repository.path / "data").mkdir()
    (repository.path / "data/x").write_text("here")
    text = (repository.path / "study.toml").read_text()
    log = repository.path / "mlruns/setup"
    more = f"setup = 'cat data/x >> {log}'\nlink = ['data']\n"
    (repository.path / "study.toml").write_text(text + more)
    arms = ("--arm", "main@git:base", "--arm", "pr@git:master")
    assert repository.run("study.toml", *arms).status == 0
    assert log.read_text() == "herehere"
    (repository.path / "study.toml").write_text(text + "setup = 'echo broken; exit 3'\n")
    said = repository.run("study.toml", *arms)
    assert said.status == 5
    assert "ended with status 3" in said.err and "It printed: broken" in said.err


@pytest.mark.parametrize(
    ("arms", "told"),
    [
        (("main@git:nope", "pr@git:."), "arm 'main': there is no commit \"nope\""),
        (("main@git:--help", "pr@git:."), "there is no commit"),
        (("main@git:base",), "has 1 arm"),
        (("main@git:master", "pr@git:."), "are the same commit"),
    ],
)
@pytest.mark.sample(4)
def test_commits_that_are_not_there_or_the_same_are_refused(repository, arms, told):
    words = [word for arm in arms for word in ("--arm", arm)]
    said = repository.run("study.toml", *words)
    assert said.status in (2, 5)
    assert told in said.err


def test_a_folder_that_is_no_repository_is_refused(folder):
    folder.write(SCORES)
    said = folder.run(folder.study(), "--arm", "a@git:main", "--arm", "b@git:.")
    assert said.status == 5
    assert "is in no git repository" in said.err


def test_submodules_and_large_files_that_are_missing_are_named(repository, tmp_path):
    sub = tmp_path / "lib"
    sub.mkdir()
    git("init", "-b", "master", str(sub))
    (sub / "a.py").write_text("")
    git("-C", str(sub), "add", "-A")
    git("-C", str(sub), "commit", "-m", "lib")
    git("-c", "protocol.file.allow=always", "submodule", "add", str(sub), "lib")
    git("commit", "-m", "with lib")
    arms = ("--arm", "main@git:master", "--arm", "pr@git:base")
    said = repository.run("study.toml", *arms)
    assert said.status == 5
    assert "has submodules that are not there: lib." in said.err
    git("rm", "-f", "lib")
    (repository.path / "model.bin").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n"
    )
    git("add", "-A")
    git("commit", "-m", "with a pointer")
    said = repository.run("study.toml", *arms)
    assert "has 1 files of Git LFS that are not there: model.bin." in said.err


def test_worktrees_of_a_session_that_was_killed_are_removed_by_the_next(repository):
    from bench.programs.git_arms import checked_out

    study = placed(str(repository.path / "study.toml"))
    arms = {"main": {"git": "base"}, "pr": {"git": "."}}
    study = Placed(study.study.model_copy(update={"arms": arms}), study.folder, study.file)
    script = (
        "import os, sys\nfrom bench.programs.study_file import placed\n"
        "from bench.programs.git_arms import checked_out\n"
        "with checked_out(placed(sys.argv[1])) as found:\n"
        "    print(found.worktrees['main'], flush=True)\n    os.kill(os.getpid(), 9)\n"
    )
    words = [sys.executable, "-c", script, study.reference]
    left = Path(subprocess.run(words, capture_output=True, text=True).stdout.strip())
    assert left.is_dir()
    with checked_out(study) as now:
        assert not left.exists()
        assert Path(now.worktrees["main"]).is_dir()
    assert not Path(now.worktrees["main"]).exists()


# -- a study as an experiment ---------------------------------------------------------------------


def test_what_an_arm_trains_is_its_command_with_all_that_is_appended(folder):
    folder.write(SCORES)
    experiment = experiment_of(placed(str(folder.study("append = '--more'"))))
    assert experiment.settings["command"].endswith("--out {out} --more")
    assert experiment.arms["more"] == {"x": 0.01}


def test_a_study_that_is_no_toml_is_a_refusal_in_python_too(folder):
    (folder.path / "bad.toml").write_text("= 1")
    with pytest.raises(Refusal, match="bad.toml is no TOML"):
        placed("bad.toml")
