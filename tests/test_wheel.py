"""The wheel: what it holds, and that it works without the checkout, in an empty folder."""

import ast
import json
import os
import re
import subprocess
import sys
import sysconfig
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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel, built without a network."""
    if not UV.exists():
        pytest.skip("no uv beside this Python; `make test` installs it")
    out = tmp_path_factory.mktemp("dist")
    build = [UV, "build", "--wheel", "--offline", "--no-build-isolation", "--python"]
    said(*build, sys.executable, "--out-dir", out, ROOT, cwd=out)
    return next(out.glob("*.whl"))


def test_holds_the_three_packages_and_what_they_read(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    info = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"
    assert {name.split("/")[0] for name in names} == {"analysis", "bench", "experiments", info}
    source = {
        path.relative_to(ROOT).as_posix()
        for package in ("analysis", "bench", "experiments")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {name for name in names if not name.startswith(info)} == source
    beside = {"analysis/report/page.html.j2", "analysis/report/style.css"}
    assert beside | {"analysis/py.typed", "bench/py.typed"} <= source
    assert f"{info}/licenses/LICENSE" in names


def test_what_it_imports_is_what_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["cluster"]]
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
    others = imported - {"analysis", "bench", "experiments"} - sys.stdlib_module_names
    sources = metadata.packages_distributions()
    assert {"torch", "mlflow", "PIL"} <= others
    used = {name: {source.lower() for source in sources[name]} for name in others}
    assert [name for name, found in used.items() if not found & known] == []
    assert known - set().union(*used.values()) == set()


def test_works_in_an_empty_environment_outside_the_checkout(wheel: Path, tmp_path: Path):
    home, env = tmp_path / "home", tmp_path / "env"
    home.mkdir()
    said(UV, "venv", "--offline", "--no-project", "--python", sys.executable, env, cwd=tmp_path)
    python = env / "bin" / "python"
    said(UV, "pip", "install", "--offline", "--no-deps", "--python", python, wheel, cwd=tmp_path)
    # What bench depends on is taken from here: packages, not the checkout, which a .pth would add.
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(said(python, "-c", ask, cwd=home).strip())
    lines = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (packages / "borrowed.pth").write_text("\n".join(sorted(lines)))

    where = said(python, "-c", "import bench, analysis; print(analysis.__file__)", cwd=home)
    assert Path(where.strip()).is_relative_to(packages)
    command = [env / "bin" / "bench", "run", "digits", "--seeds", "6", "--json"]
    found = json.loads(said(*command, cwd=home))
    assert found["schema"] == SCHEMA and found["comparisons"][0]["n_pairs"] == 6
    report = home / "mlruns" / "reports" / "digits" / "report.html"
    assert report.stat().st_size > 100_000
    assert [path.name for path in home.iterdir()] == ["mlruns"]
