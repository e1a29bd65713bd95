"""The index is the one that the user configured for uv or for pip."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pypi_simple import PYPI_SIMPLE_ENDPOINT

from build_matrix.errors import ConfigurationError
from build_matrix.index import read_configuration


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment in which nobody has configured anything."""
    (tmp_path / "home").mkdir()
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "home"),
        "XDG_CONFIG_DIRS": str(tmp_path / "xdg"),
        "PIP_CONFIG_FILE": os.devnull,
        "UV_CONFIG_FILE": os.devnull,
    }


def test_without_any_configuration_pips_default_is_used(bare: dict[str, str]) -> None:
    found = read_configuration(bare)
    assert found.endpoints == (PYPI_SIMPLE_ENDPOINT,)
    assert found.origin == "built-in default"


def test_pips_file_and_environment_are_honoured(bare: dict[str, str], tmp_path: Path) -> None:
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://mirror.test/simple\nextra-index-url = https://two.test/simple\n"
        "find-links = /srv/wheels\ntrusted-host = mirror.test\n"
    )
    found = read_configuration(bare | {"PIP_CONFIG_FILE": str(config)})
    assert found.endpoints == ("https://mirror.test/simple", "https://two.test/simple")
    assert found.find_links == ("/srv/wheels",)
    assert found.trusted_hosts == ("mirror.test",)
    stronger = read_configuration(bare | {"PIP_CONFIG_FILE": str(config), "PIP_INDEX_URL": "https://env.test/simple"})
    assert stronger.endpoints[0] == "https://env.test/simple"


def test_uvs_environment_and_file_win_over_pip(bare: dict[str, str], tmp_path: Path) -> None:
    pip = {"PIP_INDEX_URL": "https://pip.test/simple"}
    by_env = read_configuration(
        bare | pip | {"UV_DEFAULT_INDEX": "https://uv.test/simple", "UV_INDEX": "name=https://extra.test/simple"}
    )
    assert by_env.endpoints == ("https://extra.test/simple", "https://uv.test/simple")
    assert by_env.origin == "uv"
    config = tmp_path / "uv.toml"
    config.write_text('[[index]]\nurl = "https://file.test/simple"\ndefault = true\n')
    by_file = read_configuration(bare | pip | {"UV_CONFIG_FILE": str(config)})
    assert by_file.endpoints == ("https://file.test/simple",)


def test_uvs_user_file_is_found_where_uv_looks_for_it(bare: dict[str, str]) -> None:
    del bare["UV_CONFIG_FILE"]
    folder = Path(bare["HOME"]) / ".config" / "uv"
    folder.mkdir(parents=True)
    (folder / "uv.toml").write_text('index-url = "https://user.test/simple"\n')
    assert read_configuration(bare).endpoints[-1] == "https://user.test/simple"


def test_no_index_leaves_only_the_folders(bare: dict[str, str]) -> None:
    found = read_configuration(bare | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/srv/wheels"})
    assert found.endpoints == ()
    assert found.uv_variables()["UV_NO_INDEX"] == "1"


def test_a_broken_configuration_file_is_exit_code_2(bare: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "uv.toml").write_text("this is not TOML")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_configuration(bare | {"UV_CONFIG_FILE": str(tmp_path / "uv.toml")})


def test_the_resolver_is_told_the_same_index(bare: dict[str, str]) -> None:
    found = read_configuration(
        bare | {"PIP_INDEX_URL": "https://one.test/simple", "PIP_EXTRA_INDEX_URL": "https://two.test/simple"}
    )
    variables = found.uv_variables()
    assert variables["UV_DEFAULT_INDEX"] == "https://one.test/simple"
    assert variables["UV_INDEX"] == "https://two.test/simple"
    assert variables["UV_NO_CONFIG"] == "1"
