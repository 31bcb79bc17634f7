"""The wheel: what it holds, and that it works without the checkout, in an empty folder."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from bench.analysis.study.findings import SCHEMA

ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).with_name("uv")


def said(*command: str | Path, cwd: Path) -> str:
    """Run a command far from the checkout and its environment, and return its stdout."""
    mine = ("PYTHON", "VIRTUAL_ENV", "MLFLOW")
    env = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def built(what: str, source: Path, out: Path) -> Path:
    """Build a wheel or sdist, without a network."""
    if not UV.exists():
        pytest.skip("no uv beside this Python; `make test` installs it")
    build = [UV, "build", f"--{what}", "--offline", "--no-build-isolation", "--python"]
    said(*build, sys.executable, "--out-dir", out, source, cwd=out)
    return next(out.glob("*.whl" if what == "wheel" else "*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a user's project: folders with the two names that are usual in ML repositories."""
    folder = tmp_path / "project"
    for name in ("analysis", "experiments"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("MINE = True\n")
    return folder


def checkout(folder: Path) -> Path:
    """Copy what is under version control, links and all."""
    listed = said("git", "ls-files", "-z", cwd=ROOT).split("\0")
    for name in filter(None, listed):
        source, target = ROOT / name, folder / name
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    return folder


def environment(folder: Path) -> Path:
    """Make an environment that borrows this one's packages, but not this checkout."""
    said(UV, "venv", "--offline", "--no-project", "--python", sys.executable, folder, cwd=ROOT)
    python = folder / "bin" / "python"
    packages = Path(said(python, "-c", PURELIB, cwd=folder).strip())
    lines = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (packages / "borrowed.pth").write_text("\n".join(sorted(lines)))  # whose .pth are not read
    return python


PURELIB = "import sysconfig; print(sysconfig.get_path('purelib'))"
ASK = """
import json, sys
sys.path.insert(0, ".")
import analysis, experiments
import bench, bench.analysis.errors, bench.experiments.digits
from bench import Experiment
print(json.dumps([bench.__file__, analysis.MINE, experiments.MINE, bench.analysis.__name__]))
"""


def works_beside(python: Path, project: Path) -> Path:
    """See that both the user's folders and bench's are imported, and return where bench lies."""
    where, mine, theirs, name = json.loads(said(python, "-c", ASK, cwd=project))
    assert mine and theirs and name == "bench.analysis"
    assert "Usage: bench" in said(python, "-m", "bench", "--help", cwd=project)
    return Path(where)


def files_of(folder: str) -> set[str]:
    return {
        path.relative_to(ROOT / folder).as_posix()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
        if not {"analysis", "experiments"} & set(path.relative_to(ROOT / folder).parts[:1])
    }


def test_holds_one_package_and_what_it_reads(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    info = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"
    source = {f"bench/{name}" for name in files_of("bench")}
    for folder in ("analysis", "experiments"):
        source |= {f"bench/{folder}/{name}" for name in files_of(folder)}
    assert {name for name in names if not name.startswith(info)} == source
    beside = {"bench/analysis/report/page.html.j2", "bench/analysis/report/style.css"}
    assert beside | {"bench/py.typed"} <= source
    assert f"{info}/licenses/LICENSE" in names


def checksums(wheel: Path) -> dict[str, int]:
    every = zipfile.ZipFile(wheel).infolist()
    return {item.filename: item.CRC for item in every if not item.filename.endswith("RECORD")}


def test_a_wheel_of_the_sdist_holds_the_same(wheel: Path, sdist: Path, tmp_path: Path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = (path for path in tmp_path.iterdir() if path.is_dir())
    out = tmp_path / "out"
    out.mkdir()
    again = built("wheel", source, out)
    assert checksums(again) == checksums(wheel)


@pytest.mark.parametrize("links", ["links", "text files"])
def test_an_editable_install_follows_the_checkout(links: str, project: Path, tmp_path: Path):
    """Where git makes no links (Windows), each is a text file that holds the path."""
    folder = checkout(tmp_path / "checkout")
    for name in ("analysis", "experiments") if links == "text files" else ():
        (folder / "bench" / name).unlink()
        (folder / "bench" / name).write_text(f"../{name}")
    python = environment(tmp_path / "env")
    install = [UV, "pip", "install", "--offline", "--no-deps", "--no-build-isolation", "--python"]
    said(*install, python, "--editable", folder, cwd=tmp_path)
    assert works_beside(python, project).is_relative_to(folder)
    (folder / "analysis" / "errors.py").write_text("NEW = 1\n")
    ask = "import bench.analysis.errors as e; print(e.NEW)"
    assert said(python, "-c", ask, cwd=project) == "1\n"


def test_what_it_imports_is_what_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    declared = [*project["dependencies"], *extras["cluster"], *extras["excel"]]
    known = {re.split(r"[^\w.-]", text)[0].lower() for text in declared}
    imported = set()
    for package in ("analysis", "bench", "experiments"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    imported.add(node.module.partition(".")[0])
                elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
                    if isinstance(node.args[0], ast.Constant):
                        imported.add(str(node.args[0].value).partition(".")[0])
    optional = {"wandb", "submitit"}  # if they are there
    others = imported - {"bench", *optional} - sys.stdlib_module_names
    sources = metadata.packages_distributions()
    assert {"torch", "mlflow", "PIL"} <= others
    used = {name: {source.lower() for source in sources[name]} for name in others}
    assert [name for name, found in used.items() if not found & known] == []
    assert known - set().union(*used.values()) == set()


def test_works_in_an_empty_environment_beside_a_users_own_folders(
    wheel: Path, project: Path, tmp_path: Path
):
    python = environment(tmp_path / "env")
    said(UV, "pip", "install", "--offline", "--no-deps", "--python", python, wheel, cwd=tmp_path)
    where = works_beside(python, project)
    assert where.is_relative_to(tmp_path / "env")
    command = [python.with_name("bench"), "run", "digits", "--seeds", "6", "--json"]
    found = json.loads(said(*command, cwd=project))
    assert found["schema"] == SCHEMA and found["comparisons"][0]["n_pairs"] == 6
    report = project / "mlruns" / "reports" / "digits" / "report.html"
    assert report.stat().st_size > 100_000
    assert {path.name for path in project.iterdir()} == {"analysis", "experiments", "mlruns"}
