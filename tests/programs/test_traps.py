"""What scripts do, through the real command: each answers right, or says what is wrong with it."""

import os
import subprocess
import sys
import time

import pytest

from bench.programs import process

SCORES = 'json.dump({"accuracy": accuracy}, open(args.out + "/metrics.json", "w"))\n'


def is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_script_that_ignores_its_seed_gets_no_verdict(folder):
    folder.write(f"accuracy = 0.8 + args.x\n{SCORES}")
    said = folder.typed(seeds=6)
    assert said.status == 0
    assert "NO VERDICT" in said.out
    assert "the training ignores the seed" in " ".join(said.out.split())


def test_a_script_that_prints_nan_has_failed(folder):
    folder.write('print("accuracy:", "nan" if args.seed == 1 and args.x else accuracy)')
    said = folder.typed("--metric", r"accuracy=accuracy: (\S+)")
    assert said.status == 3
    assert "seed 01, more: accuracy is nan." in said.err
    assert len(folder.values("base")) == 3
    assert len(folder.values("more")) == 2


def test_a_script_without_results_ends_with_what_it_printed_and_what_was_looked_for(folder):
    folder.write('print("all done")')
    said = folder.typed()
    assert said.status == 3
    assert 'the program ended well, and no "accuracy" was found.' in said.err
    assert "It printed: all done" in said.err
    assert "metrics.json, metrics.jsonl" in said.err
    assert 'To mend it: write {"accuracy": 0.94} to {out}/metrics.json, or read' in said.err


def test_results_in_another_folder_are_named(folder):
    folder.write('json.dump({"accuracy": accuracy}, open("metrics.json", "w"))')
    said = folder.typed()
    assert said.status == 3
    assert f"It wrote {folder.path / 'metrics.json'}, which is not in {{out}}." in said.err


def test_two_commands_that_share_one_output_file_are_refused(folder):
    folder.write('json.dump({"accuracy": accuracy}, open("shared/metrics.json", "w"))')
    (folder.path / "shared").mkdir()
    said = folder.typed()
    assert said.status == 3
    assert 'no "accuracy" was found' in said.err


def test_lines_of_a_script_that_buffers_are_read_while_it_runs(folder):
    folder.write(
        """
        for epoch in range(3):
            print("epoch", epoch, "acc", accuracy)
            time.sleep(0.3)
        """
    )
    said = folder.typed("--metric", r"acc=epoch (?P<epoch>\d+) acc ([\d.]+)", seeds=1)
    assert said.status == 0
    times = folder.store.tables(folder.store.benchmark()).epochs
    mine = times[times.arm == "more"].sort_values("epoch").time.tolist()
    assert mine[2] - mine[0] > 0.4
    assert [row["epoch"] for row in folder.epochs()] == [0, 1, 2]


def test_fifty_megabytes_of_output_cost_neither_memory_nor_the_result(folder):
    folder.write(
        f"""
        sys.stdout.write(("x" * 99 + "\\n") * 500_000)
        {SCORES}"""
    )
    said = folder.typed(seeds=1)
    assert said.status == 0
    benchmark = folder.store.benchmark()
    for child in folder.store.settled(benchmark)[0].values():
        kept = folder.path / "mlruns"
        assert sum(p.stat().st_size for p in kept.rglob("*") if child.run.run_id in str(p)) < 2**20


def test_a_script_that_needs_stdin_is_told_so(folder):
    folder.write("input('go on? ')")
    said = folder.typed()
    assert said.status == 3
    assert "its stdin is empty" in said.err


def test_children_that_a_script_leaves_are_ended(folder):
    folder.write(
        f"""
        import subprocess
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        open("children", "a").write(f"{{child.pid}}\\n")
        {SCORES}"""
    )
    began = time.monotonic()
    assert folder.typed(seeds=1).status == 0
    assert time.monotonic() - began < 60
    assert all(map(is_gone, map(int, (folder.path / "children").read_text().split())))


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV"])
def test_a_script_that_is_killed_is_tried_again_and_then_failed(folder, name):
    folder.write(
        f"""
        import signal
        if args.seed == 1 and args.x:
            print("about to die", flush=True)
            os.kill(os.getpid(), signal.{name})
        {SCORES}"""
    )
    said = folder.typed("--keep-going")
    assert said.status == 3
    assert f"seed 01, more: its process was ended by {name}" in said.err
    assert "It printed last: about to die" in said.err
    assert len(folder.values("more")) == 2


def test_a_seed_may_stand_twice_in_a_command(folder):
    folder.write(
        f"""
        assert os.path.isdir(args.out)
        {SCORES}"""
    )
    command = "train.py --seed {seed} --seed {seed}"
    assert folder.typed(command=command).status == 0


def test_windows_line_ends_and_a_half_written_last_line_are_read(folder):
    folder.write(
        r"""
        with open(args.out + "/metrics.jsonl", "wb") as f:
            for epoch in range(3):
                row = {"epoch": epoch, "accuracy": accuracy - 2 + epoch}
                f.write(json.dumps(row).encode() + b"\r\n")
            f.write(b'{"epoch": 3, "accur')
        """
    )
    said = folder.typed()
    assert said.status == 0, said.err
    assert [row["epoch"] for row in folder.epochs()] == [0, 1, 2]
    assert all(0.7 < value < 0.9 for value in folder.values("base"))


def test_a_metric_that_only_the_last_epoch_has_is_found(folder):
    folder.write(
        """
        with open(args.out + "/metrics.jsonl", "w") as f:
            for epoch in range(3):
                row = {"epoch": epoch, "loss": 1.0 / (epoch + 1)}
                if epoch == 2:
                    row["accuracy"] = accuracy
                f.write(json.dumps(row) + "\\n")
        """
    )
    assert folder.typed().status == 0
    assert all(0.7 < value < 0.9 for value in folder.values("base"))
    assert [row.get("accuracy") is not None for row in folder.epochs()] == [False, False, True]


def test_metrics_that_are_written_anew_each_epoch_are_read_once(folder):
    folder.write(
        """
        rows = []
        for epoch in range(3):
            rows.append({"epoch": epoch, "accuracy": accuracy, "loss": 1.0})
            with open(args.out + "/new", "w") as f:
                f.writelines(json.dumps(row) + "\\n" for row in rows)
            os.replace(args.out + "/new", args.out + "/metrics.jsonl")
            time.sleep(0.3)
        """
    )
    assert folder.typed(seeds=1).status == 0
    assert [row["epoch"] for row in folder.epochs()] == [0, 1, 2]


def test_a_csv_of_epochs_is_as_good(folder):
    folder.write(
        """
        with open(args.out + "/metrics.csv", "w") as f:
            f.write("epoch,accuracy,note\\n")
            for epoch in range(3):
                f.write(f"{epoch},{accuracy},fine\\n")
        """
    )
    assert folder.typed(seeds=1).status == 0
    assert [row["epoch"] for row in folder.epochs()] == [0, 1, 2]


def test_per_cent_signs_and_braces_reach_the_program_as_they_are(folder):
    folder.write(
        f"""
        assert args.cfg == '{{"lr": 0.1, "f": "%d{{}}"}}', args.cfg
        {SCORES}""",
        head=folder.head.replace("args =", 'parser.add_argument("--cfg")\nargs =', 1),
    )
    command = """train.py --cfg '{"lr": 0.1, "f": "%d{}"}'"""
    said = folder.typed(command=command)
    assert said.status == 0, said.err


def test_spaces_in_paths_are_no_word_ends(folder):
    folder.write(SCORES, name="my code/train it.py")
    assert folder.typed(command="'my code/train it.py'").status == 0


def test_a_command_that_is_not_found_stops_before_anything_is_trained(folder):
    said = folder.run("--arm", "base=no-such-program-1 {seed}", "--arm", "more=no-such-program-2")
    assert said.status == 5
    assert "error[arms]: there is no program no-such-program-1." in said.err


def test_a_traceback_and_status_0_with_a_result_is_a_caution(folder):
    folder.write(
        f"""
        import traceback
        try:
            1 / 0
        except ZeroDivisionError:
            traceback.print_exc()
        {SCORES}"""
    )
    said = folder.typed("--json")
    assert said.status == 0
    checks = {check["id"]: check for check in said.json["checks"]}
    assert "6 runs printed a traceback" in checks["C25"]["text"]


def test_a_program_that_fails_gives_its_log_and_the_command_to_repeat(folder):
    folder.write('sys.exit("no such file: data.bin")')
    said = folder.typed()
    assert said.status == 3
    assert "the program ended with status 1: no such file: data.bin" in said.err
    again = next(line for line in said.err.splitlines() if "To repeat it: " in line)
    done = subprocess.run(["sh", "-c", again.partition(": ")[2]], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "no such file: data.bin\n")


def test_a_word_that_a_shell_would_have_replaced_is_named(folder):
    folder.write("sys.exit(1)")
    said = folder.run(folder.study("append = '--x=$X'"))
    assert "No shell is started, so that --x=$X stays as it is." in said.err


def test_a_program_that_takes_too_long_is_ended_with_all_it_started(folder, monkeypatch):
    folder.write(
        """
        import signal, subprocess
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        open("children", "a").write(f"{child.pid}\\n")
        time.sleep(600)
        """
    )
    said = folder.typed("--timeout", 0.02, seeds=1)
    assert said.status == 3
    assert "took longer than --timeout 0.02 min" in said.err
    assert all(map(is_gone, map(int, (folder.path / "children").read_text().split())))


def test_the_number_before_a_per_cent_sign_is_a_per_cent(folder):
    folder.write('print(f"Test accuracy: {100 * accuracy:.2f}%")')
    assert folder.typed("--metric", r"accuracy=Test accuracy: ([\d.]+)%").status == 0
    assert all(0.7 < value < 0.9 for value in folder.values("base"))


def test_a_fraction_above_one_is_refused(folder):
    folder.write('print(f"accuracy {100 * accuracy:.2f}")')
    said = folder.typed("--metric", r"accuracy=accuracy ([\d.]+)")
    assert said.status == 3
    assert "and it is a fraction from 0 to 1" in said.err


def test_what_is_left_of_a_program_that_holds_its_pipe_is_not_waited_for(tmp_path):
    lines: list[str] = []
    script = "import os, sys\nif os.fork(): print('done')\nelse:\n import time; time.sleep(20)"
    began = time.monotonic()
    code = process.run(
        [sys.executable, "-c", script],
        folder=tmp_path,
        environment=dict(os.environ),
        on_line=lines.append,
        on_poll=lambda: None,
        log=os.open(os.devnull, os.O_WRONLY),
    )
    assert (code, lines) == (0, ["done"])
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("most", [10_000, 1])
def test_a_long_log_keeps_its_end(tmp_path, monkeypatch, most):
    monkeypatch.setattr(process, "MOST_LOG", most)
    log = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    script = "for i in range(30_000): print(f'line {i}')"
    process.run(
        [sys.executable, "-c", script],
        folder=tmp_path,
        environment=dict(os.environ),
        on_line=lambda line: None,
        on_poll=lambda: None,
        log=log,
    )
    kept = (tmp_path / "log").read_text()
    assert len(kept) < 2**18
    assert kept.endswith("line 29999\n")


def test_what_is_finished_outlives_a_kill_of_the_command_and_what_is_not_is_ended(folder):
    folder.write(
        f"""
        open("begun", "a").write(f"{{args.seed}} {{args.x}} {{os.getpid()}}\\n")
        time.sleep(600 if args.seed == 2 and not os.path.exists("again") else 0)
        {SCORES}"""
    )
    study, begun = folder.study(), folder.path / "begun"
    words = [sys.executable, "-m", "bench", "run", str(study), "--seeds", "4", "--workers", "1"]
    command = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        if begun.exists() and begun.read_text().count("\n") >= 5:
            break
        time.sleep(0.1)
    command.kill()
    command.wait()
    last = int(begun.read_text().split()[-1])
    for _ in range(200):
        if is_gone(last):
            break
        time.sleep(0.1)
    assert is_gone(last)
    (folder.path / "again").touch()
    assert folder.run(study, seeds=4).status == 0
    trained = [tuple(line.split()[:2]) for line in begun.read_text().splitlines()]
    assert len(trained) == 9  # the one that was killed twice
    assert len(set(trained)) == 8
    assert len(folder.values("base")) == len(folder.values("more")) == 4
