"""Families of other packages: found by their entry point, held to the contract of our own."""

import subprocess
import sys
from pathlib import Path

import pytest

from aistudio.config import ImageSpec, ModelConfig, WeightsFile
from aistudio.errors import ConfigError
from aistudio.models import check_weights, families, kind, load_model, require_kind
from tests.models import test_contract as contract

PACKAGE = Path(__file__).parent / "example_package"


@pytest.fixture
def installed(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(PACKAGE))


def conf(family: str = "quarters") -> ModelConfig:
    return ModelConfig(family=family, name=f"tiny_{family}", weights=WeightsFile(path="none"), image=ImageSpec(size=16))


@pytest.mark.usefixtures("installed")
def test_a_family_of_another_package_keeps_the_contract() -> None:
    assert {"quarters", "align"} <= set(families())
    tiny = contract.Tiny(conf(), kind(conf()), load_model(conf()))
    contract.test_images(tiny)
    for wrong in ("float", "size", "grey"):
        contract.test_other_pixels_are_refused(tiny, wrong)
    contract.test_what_a_check_says_is_what_the_model_is(tiny)
    contract.test_the_typed_loaders_refuse_other_kinds(tiny)
    contract.test_a_setting_that_wants_another_kind_says_so(tiny)


@pytest.mark.usefixtures("installed")
def test_a_family_that_cannot_be_imported_costs_itself_alone() -> None:
    with pytest.raises(ConfigError, match=r"family 'broken' of the package example-family cannot be used: .*not_there"):
        check_weights(conf("broken"))
    with pytest.raises(ConfigError, match="of the kind image encoder, expected a recall model"):
        require_kind(conf(), "models.recall")


def test_without_the_package_the_family_is_not_known() -> None:
    with pytest.raises(ConfigError, match="family 'quarters' is not known"):
        kind(conf())


def test_our_own_names_cannot_be_taken(tmp_path: Path, monkeypatch) -> None:
    info = tmp_path / "thief-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thief\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[aistudio.families]\nalign = example_family\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(PACKAGE))
    assert families().count("align") == 1
    assert kind(conf("align")) != kind(conf())


def test_listing_families_imports_none() -> None:
    code = "import sys; from aistudio.models import families; families(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
