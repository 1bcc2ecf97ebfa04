"""The docs are true both ways: what they name exists, and what exists is in them."""

import importlib
import re
import runpy
import shlex
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from aistudio.config import JobConfig, ModelConfig, Settings, parse_config
from aistudio.config.model_text import model_of_text
from aistudio.jobs.cli import VERBS

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = runpy.run_path(str(ROOT / "docs/make_reference.py"))
PAGES = REFERENCE["pages"]()
SITE = sorted([*(ROOT / "docs").glob("*.md"), *(ROOT / "docs/commands").glob("*.md")])
OTHERS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
KNOWN = set(re.findall(r"^\| `([\w.]+)`", PAGES["settings.md"], re.MULTILINE))
SECTIONS = sorted(name for name, field in JobConfig.model_fields.items() if REFERENCE["is_settings"](field.annotation))


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_page_that_is_made_is_up_to_date(name):
    assert (ROOT / "docs" / name).read_text("utf-8") == PAGES[name], f"docs/{name}: run `make docs`"


@pytest.mark.parametrize("path", [*SITE, *OTHERS], ids=lambda p: p.name)
def test_every_command_and_setting_on_a_page_exists(path):
    text = path.read_text("utf-8")
    for verb in re.findall(r"^(?:python -m )?aistudio ([a-z0-9_]+)", text, re.MULTILINE):
        assert verb in VERBS
    named = re.findall(rf"(?:--set |`)((?:{'|'.join(SECTIONS)})\.[a-z_]+)[=:`]", text)
    assert not [name for name in named if name not in KNOWN and not of_a_file(name)]


def of_a_file(name: str) -> bool:
    """delta.md and the like."""
    return name.rpartition(".")[2] in ("md", "py", "json", "html", "yaml", "parquet", "csv")


def commands(text: str) -> list[tuple[str, list[str]]]:
    """(verb, its long options) of each command in a page, continued lines joined, comments left out."""
    found = re.findall(
        r"^(?:\$ )?(?:python -m )?aistudio ([a-z0-9_]+)([^\n]*)", text.replace("\\\n", " "), re.MULTILINE
    )
    return [(verb, re.findall(r"(?<!\S)(--[a-z][a-z0-9-]*)", line.split(" # ")[0])) for verb, line in found]


@pytest.mark.parametrize("path", [*SITE, *OTHERS], ids=lambda p: p.name)
def test_every_option_of_a_command_on_a_page_exists(path):
    for verb, options in commands(path.read_text("utf-8")):
        parser = importlib.import_module(f"aistudio.jobs.{verb}").build_parser()
        known = set(parser._option_string_actions) | options_of_parts(parser)
        assert not [o for o in options if o not in known], (verb, options)


@pytest.mark.parametrize("path", [*SITE, *OTHERS], ids=lambda p: p.name)
def test_every_command_on_a_page_parses(path, capsys):
    """Those that are written out: no placeholders, no alternatives."""
    text = re.sub(r"\\\n\s*", " ", path.read_text("utf-8"))
    for line in re.findall(r"^(?:\$ )?(?:python -m )?aistudio ([^\n]+)", text, re.MULTILINE):
        words = shlex.split(re.split(r"\s#\s|\s&&\s|\s\|\s", line)[0])
        if words[0] not in VERBS or any(re.search(r"\.\.\.|…|^[\[<]|[|\]]$", word) for word in words):
            continue
        parser = importlib.import_module(f"aistudio.jobs.{words[0]}").build_parser()
        try:
            parser.parse_args(words[1:])
        except SystemExit:
            pytest.fail(f"aistudio {line}\n{capsys.readouterr().err}")


def test_the_readmes_own_catalogue_is_a_conf_with_an_openly_licensed_model():
    text = (ROOT / "README.md").read_text("utf-8").partition("## Score your own catalogue")[2]
    block = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    config = parse_config(yaml.safe_load(block[1]), "README.md")
    model = model_of_text(config.models.recall)
    assert (model["family"], model["arch"]["model"]) == ("hf_dual", "google/siglip2-base-patch16-256")
    assert config.models.ranking is None and "published" not in block[1]


def options_of_parts(parser) -> set[str]:
    """Options of a verb's own verbs, such as `weights fetch`."""
    parts = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    return {option for part in parts for sub in part.values() for option in sub._option_string_actions}


def test_every_verb_is_in_the_readme_and_has_a_page():
    readme = (ROOT / "README.md").read_text("utf-8")
    for verb in VERBS:
        assert f"| `{verb}` |" in readme and f"(commands/{verb}.md)" in PAGES["commands.md"], verb
    assert {path.stem for path in (ROOT / "docs/commands").glob("*.md")} == set(VERBS)


def classes(owner: type[Settings] = Settings) -> list[type[Settings]]:
    """Every class of settings of ours."""
    return [
        c for sub in owner.__subclasses__() for c in (sub, *classes(sub)) if c.__module__.startswith("aistudio.conf")
    ]


@pytest.mark.parametrize("owner", sorted(set(classes()), key=lambda c: c.__name__), ids=lambda c: c.__name__)
def test_every_setting_is_explained(owner):
    """A sentence, not a type; what is written as a list or a mapping has an example."""
    said = REFERENCE["comments"](owner)
    for name, field in owner.model_fields.items():
        if REFERENCE["is_settings"](field.annotation):
            continue
        meaning, example = REFERENCE["meaning_of"](field, said.get(name, ""))
        assert len(meaning.split()) >= 3, f"{owner.__name__}.{name}: {meaning!r}"
        if field.annotation not in (list[int],) and re.match(r"(dict|list|tuple)\[str", str(field.annotation)):
            assert example, f"{owner.__name__}.{name}: no example"
        assert any(full.rpartition(".")[2] == name for full in KNOWN), f"{owner.__name__}.{name} is on no page"


def test_settings_of_parts_that_may_be_absent_are_on_the_page():
    assert {
        "download.hosts.NAME.max_rate_per_s", "image.detector.score_threshold", "data.roles.key", "data.drawn.seed",
        "data.label", "augment.rotate_degrees", "augment.jitter.hue",
    } <= KNOWN  # fmt: skip
    assert {name for name, field in ModelConfig.model_fields.items() if name in KNOWN} >= {"family", "arch", "towers"}


def test_every_page_is_in_the_table_of_contents():
    listed = set("\n".join((ROOT / f"docs/{name}.md").read_text("utf-8") for name in ("index", "commands")).split())
    assert {p.relative_to(ROOT / "docs").with_suffix("").as_posix() for p in SITE} - {"index"} <= listed


def plain(text: str) -> str:
    """Without code blocks and code, in which brackets mean something else."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(path: Path) -> set[str]:
    """Names of a page's headings as links have them."""
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#{1,3} (.+)$", text, re.MULTILINE)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", title.strip().lower())) for title in titles}


@pytest.mark.parametrize("path", [*SITE, *OTHERS], ids=lambda p: p.name)
def test_every_link_leads_somewhere(path):
    """Files and headings of ours are there; of addresses elsewhere only the form is looked at."""
    for target in re.findall(r"\[[^\]\n]*\]\(([^)\s]+)\)", plain(path.read_text("utf-8"))):
        address = urlsplit(target)
        if address.scheme:
            assert address.scheme in ("https", "http", "mailto") and (address.netloc or address.path), target
            continue
        file = path.parent / address.path if address.path else path
        assert file.exists(), f"{path.name}: {target}"
        assert not address.fragment or address.fragment in anchors(file), f"{path.name}: {target}"


def test_nobody_is_told_to_install_somebody_elses_package():
    """`aistudio` is another distribution; ours is aistudio-catalogue, also in messages, confs and comments."""
    known = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split(
        "\n"
    )
    if not any(known):
        pytest.skip("no git checkout")
    files = [name for name in known if name.endswith((".md", ".py", ".yaml", ".toml")) and name != "CHANGELOG.md"]
    wrong = re.compile(r"\baistudio\[[a-z]|pip install [^|`]*\baistudio(?=[\s'\"`]|$)|\"aistudio @ ")
    own = Path(__file__).relative_to(ROOT).as_posix()
    found = [
        f"{name}: {line.strip()}"
        for name in files if name != own and (ROOT / name).is_file()
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
        if wrong.search(line)
    ]  # fmt: skip
    assert not found, "\n".join(found)


def test_no_page_has_the_name_of_one_that_sphinx_makes():
    """A page docs/search.md was there, and nobody could read it: Sphinx wrote its own search.html over it."""
    assert not {path.stem for path in SITE if path.parent.name == "docs"} & {"search", "genindex", "modindex"}
