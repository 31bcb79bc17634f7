"""Documentation: every command and option says what it does, in its help and in README or docs."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from bench import __version__
from bench.cli import app

ROOT = Path(__file__).parents[1]
PAGES = {path.name: path.read_text("utf-8") for path in (ROOT / "docs").glob("*.md")}
PAGES |= {path.name: path.read_text("utf-8") for path in ROOT.glob("*.md")}
REFERENCE = PAGES["command-line.md"]
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
EVERYWHERE = {"--json", "--quiet", "--verbose", "--no-color", "--help", "--store"}


def options(command: Any) -> dict[str, Any]:
    """Return a command's options by their long name."""
    return {
        name: param
        for param in command.params
        for name in (*param.opts, *param.secondary_opts)
        if name.startswith("--")
    }


def every_option() -> list[tuple[str, str]]:
    """Return a command that takes it and an option; one that many share and explain alike, once."""
    found = {
        (option, param.help): (name, option)
        for name, command in COMMANDS.items()
        for option, param in options(command).items()
    }
    return list(found.values())


def section(command: str) -> str:
    """Return what the reference says about a command."""
    if command == "run":
        return REFERENCE.partition("## bench run")[2].partition("\n## ")[0]
    return (
        REFERENCE.partition(f"**`bench {command}")[2]
        .partition("\n\n**`bench")[0]
        .partition("\n## ")[0]
    )


def named(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


def typed() -> list[tuple[str, list[str]]]:
    """Return every `bench` command that a page shows, with the page's name."""
    found = []
    for page, text in PAGES.items():
        for line in re.findall(r"^\$ (bench [a-z].*?)(?:\s+#.*)?$", text, re.M):
            found.append((page, line.split()))
    return found


@pytest.mark.parametrize("name", list(COMMANDS))
def test_a_commands_help_begins_with_what_it_does_and_shows_examples(name: str, bench: Any):
    said = bench(name, "--help").out.splitlines()
    assert said[0].startswith(f"Usage: bench {name} [OPTIONS]")
    assert re.fullmatch(r"  [A-Z].*", said[2])
    assert any(line.startswith(f"    bench {name}") for line in said)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_list_of_commands_says_all_of_what_a_command_does(name: str, bench: Any):
    first = COMMANDS[name].help.split("\n\n")[0].strip()
    assert first.endswith(".")
    assert re.search(rf"^  {name} +{re.escape(first)}$", bench("--help").out, re.M)


@pytest.mark.parametrize(("name", "option"), every_option())
def test_an_options_help_describes_it(name: str, option: str, bench: Any):
    lines = bench(name, "--help").out.split()
    text = re.sub(r"(?<=[a-z]-) (?=[a-z])", "", " ".join(lines))  # lines break at hyphens
    help_text = " ".join(options(COMMANDS[name])[option].help.split())
    assert len(help_text.split()) > 1 and help_text.endswith(".")
    assert re.search(rf"{option}( \S+)? {re.escape(help_text)}", text)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_an_argument_is_described_too(name: str, bench: Any):
    text = " ".join(bench(name, "--help").out.split())
    for param in COMMANDS[name].params:
        if not param.opts[0].startswith("-"):
            assert f"Arguments: {param.metavar} {param.help}" in text


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_readme_shows_every_command(name: str):
    assert re.search(rf"\bbench {name}\b", PAGES["README.md"])


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_reference_has_a_commands_options_and_no_others(name: str):
    own = set(options(COMMANDS[name])) - EVERYWHERE
    assert own - named(section(name)) == set()
    assert named(section(name)) - set(options(COMMANDS[name])) == set()


def test_the_reference_says_what_all_commands_share():
    shared = REFERENCE.partition("## Everywhere")[2]
    assert named(shared) - EVERYWHERE == {
        "--version",
        "--install-completion",
        "--show-completion",
        "--offline",
        "--fail-on",
    }
    assert EVERYWHERE <= named(shared)
    for name in COMMANDS:
        missing = EVERYWHERE - set(options(COMMANDS[name])) - {"--help"}
        assert missing <= {"--store"}, name


def test_every_option_has_its_short_form_in_the_reference():
    short = {
        o for c in COMMANDS.values() for p in c.params for o in p.opts if re.match("-[a-z]", o)
    }
    assert short | {"-h"} == set(re.findall(r"`(-[a-z])`", REFERENCE))


@pytest.mark.parametrize(
    ("page", "words"), typed(), ids=lambda x: x if isinstance(x, str) else " ".join(x)
)
def test_what_a_page_shows_can_be_typed(page: str, words: list[str]):
    assert words[1] in COMMANDS
    given = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert given <= set(options(COMMANDS[words[1]]))


def test_the_reference_names_the_built_in_experiments_and_exit_codes(bench: Any):
    from bench.design.loading import built_in

    assert ", ".join(f"`{name}`" for name in built_in()) in REFERENCE
    codes = re.findall(
        r"(?:^|[\s;,])(\d{1,3})\s(?=[a-z`])", REFERENCE.partition("**Exit codes.**")[2]
    )
    shown = bench("run", "-h").out.partition("Exit codes:")[2]
    assert set(codes) == set(re.findall(r"(?:^|[;,]\s)\s*(\d{1,3}) ", shown)) | {"1"}


@pytest.mark.parametrize("page", list(PAGES))
def test_links_between_pages_lead_somewhere(page: str):
    folder = ROOT if (ROOT / page).exists() else ROOT / "docs"
    for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]*)?\)", PAGES[page]):
        assert (folder / target).exists(), target
    anchors = {
        re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-")
        for h in re.findall(r"^#+ (.*)$", PAGES[page], re.M)
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGES[page])) <= anchors


@pytest.mark.parametrize("page", list(PAGES))
def test_the_files_that_a_page_names_are_there(page: str):
    folders = "bench|analysis|experiments|tests|docs"
    for name in re.findall(rf"`((?:{folders})/[\w/.-]+)`", PAGES[page]):
        assert "NAME" in name or (ROOT / name).exists(), name


def test_the_changelog_has_this_version():
    assert f"## [{__version__}]" in PAGES["CHANGELOG.md"]


def test_pre_commit_runs_what_make_lint_runs():
    hooks = re.findall(r"entry: \.venv/bin/(.*)", (ROOT / ".pre-commit-config.yaml").read_text())
    recipe = (ROOT / "Makefile").read_text().partition("lint: $(STAMP)\n")[2].partition("\n\n")[0]
    made = [line.removeprefix("\t$(BIN)/") for line in recipe.splitlines()]
    assert [hook.removesuffix(" --force-exclude") for hook in hooks] == [
        line.removesuffix(" .").removesuffix(" --check") for line in made
    ]
