"""README, CONTRIBUTING and docs say what is there: commands, flags, paths, code."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "sionna_loc"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def read(page):
    return page.read_text(encoding="utf-8")


def code_of(page):
    """Return each piece of code in the text and each line of a block of commands."""
    text = read(page).replace("\\\n", " ")
    lines = [line for _, block in FENCED.findall(text) for line in block.splitlines()]
    text = FENCED.sub("", text)
    lines += [line for line in text.splitlines() if line.startswith("    ")]
    lines += re.findall(r"`([^`]+)`", text)
    return [" ".join(line.split()) for line in lines]


def anchors_of(page):
    """Return what links to the headings of a page end with, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", read(page)), re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {line.replace(" ", "-") for line in words}


def commands_of(page, start):
    """Return the words after `start` of each command that begins so."""
    found = [code for code in code_of(page) if code.startswith(start)]
    return [shlex.split(code.removeprefix(start), comments=True) for code in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_the_flags_they_are_shown_with(page):
    for name, *arguments in commands_of(page, "python -m sionna_loc."):
        parser = importlib.import_module(f"sionna_loc.{name}").build_parser()
        parser.parse_args(arguments)
    for script, *arguments in commands_of(page, "python benchmarks/"):
        source = (ROOT / "benchmarks" / script).read_text(encoding="utf-8")
        for flag in (word for word in arguments if word.startswith("--")):
            assert f'"{flag}"' in source, f"{script} has no {flag}"
    shared = (ROOT / "tuning" / "localizer_search.py").read_text(encoding="utf-8")
    for script, *arguments in commands_of(page, "python tuning/"):
        assert (ROOT / "tuning" / script).exists(), script
        for flag in (word for word in arguments if word.startswith("--")):
            assert f'"{flag}"' in shared, f"{script} has no {flag}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_targets_of_make_exist(page):
    makefile = read(ROOT / "Makefile")
    for target, *_ in commands_of(page, "make "):
        assert f"\n{target}:" in makefile, target


def test_the_commands_are_found():
    modules = {words[0] for words in commands_of(ROOT / "README.md", "python -m ")}
    assert modules >= {
        f"sionna_loc.{name}" for name in ("train", "evaluate", "predict")
    }
    assert ["train"] in commands_of(ROOT / "README.md", "make ")
    assert any(commands_of(ROOT / "README.md", "python benchmarks/"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_lead_somewhere(page):
    for link, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", read(page)):
        if not link.startswith("http"):
            target = page.parent / link if link else page
            assert target.exists(), link
            assert not anchor or anchor in anchors_of(target), anchor
    folders = ("sionna_loc/", "docs/", "tests/", "benchmarks/", ".ci/", "tuning/")
    for code in (code for code in code_of(page) if code.startswith(folders)):
        path, *_ = code.split()
        assert (ROOT / path).exists(), path


def test_the_map_names_every_room_and_every_file_it_names_exists():
    text = read(ROOT / "CONTRIBUTING.md")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    names = re.findall(r"`([\w/]+\.py|sionna_loc/\w+/)`", "\n".join(rows))
    names = {name.removeprefix("sionna_loc/") for name in names}
    for name in names:
        assert (PACKAGE / name).exists(), name
    there = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py"}
    there |= {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    assert there - names == set()


@pytest.mark.slow
def test_the_example_of_the_readme_runs(tmp_path, monkeypatch):
    from sionna_loc import saving

    (example,) = (
        code for kind, code in FENCED.findall(read(ROOT / "README.md")) if kind
    )
    for whole, small in (
        ('get_scenario("paris_scn1")', 'get_scenario("paris_scn1", small=True)'),
        ("steps_per_epoch=200", "steps_per_epoch=2"),
    ):
        assert whole in example
        example = example.replace(whole, small)
    training, loading = re.split(
        r"(?=^model = load_model)", example, flags=re.MULTILINE
    )
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(training, names)
    (tmp_path / "runs" / "paris_scn1").mkdir(parents=True)
    saving.save_model(names["model"], tmp_path / "runs" / "paris_scn1" / saving.MODEL)
    exec(loading, names)
    assert names["position"].shape == (64, 3)
