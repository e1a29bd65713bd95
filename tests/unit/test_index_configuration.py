"""The index is the one that the user configured for uv or for pip."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pip_settings import pip_settings
from pypi_simple import PYPI_SIMPLE_ENDPOINT

from build_matrix.downloads import install, read_configuration
from build_matrix.downloads.index import configuration
from build_matrix.errors import BuildMatrixError, ConfigurationError, CredentialsError, InstallError


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


@pytest.fixture
def quick_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is not about pip."""
    monkeypatch.setattr(configuration, "_pip_config", pip_settings)


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


def test_no_index_leaves_only_the_folders(bare: dict[str, str], tmp_path: Path) -> None:
    found = read_configuration(bare | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/srv/wheels"})
    assert found.endpoints == ()
    assert found.uv_variables(tmp_path)["UV_NO_INDEX"] == "1"


def test_a_broken_configuration_file_is_exit_code_2(bare: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "uv.toml").write_text("this is not TOML")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_configuration(bare | {"UV_CONFIG_FILE": str(tmp_path / "uv.toml")})


def test_the_resolver_is_told_the_same_index(bare: dict[str, str], tmp_path: Path) -> None:
    found = read_configuration(
        bare | {"PIP_INDEX_URL": "https://one.test/simple", "PIP_EXTRA_INDEX_URL": "https://two.test/simple"}
    )
    variables = found.uv_variables(tmp_path)
    assert variables["UV_DEFAULT_INDEX"] == "https://one.test/simple"
    assert variables["UV_INDEX"] == "https://two.test/simple"
    assert variables["UV_NO_CONFIG"] == "1"


def settings_file(tmp_path: Path, text: str) -> dict[str, str]:
    (tmp_path / "uv.toml").write_text(text, encoding="utf-8")
    return {"UV_CONFIG_FILE": str(tmp_path / "uv.toml")}


@pytest.mark.usefixtures("quick_pip")
def test_credentials_are_kept_apart_from_the_address(bare: dict[str, str]) -> None:
    found = read_configuration(bare | {"UV_DEFAULT_INDEX": "mine=https://us%40er:p%2Fw@uv.test/simple"})
    assert found.endpoints == ("https://uv.test/simple",)
    assert [(entry.username, entry.password) for entry in found.credentials] == [("us@er", "p/w")]
    assert "p/w" not in repr(found)


@pytest.mark.usefixtures("quick_pip")
def test_a_token_alone_is_the_user(bare: dict[str, str]) -> None:
    (credential,) = read_configuration(bare | {"PIP_INDEX_URL": "https://t0ken@pip.test/simple"}).credentials
    assert (credential.username, credential.password) == ("t0ken", "")
    assert credential.with_user_info == "https://t0ken@pip.test/simple"


@pytest.mark.usefixtures("quick_pip")
def test_uvs_variables_of_a_named_index_win_over_its_url(bare: dict[str, str], tmp_path: Path) -> None:
    file = settings_file(tmp_path, '[[index]]\nname = "My.index-1"\nurl = "https://a:b@uv.test/simple"\n')
    named = {"UV_INDEX_MY_INDEX_1_USERNAME": "user", "UV_INDEX_MY_INDEX_1_PASSWORD": "s3cret"}
    (credential,) = read_configuration(bare | file | named).credentials
    assert (credential.url, credential.username, credential.password) == ("https://uv.test/simple", "user", "s3cret")


@pytest.mark.usefixtures("quick_pip")
def test_uv_gets_the_credentials_in_its_environment_and_never_in_its_argv(
    bare: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[list[str], dict[str, str]]] = []

    def run(argv: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        calls.append((argv, options["env"]))
        return subprocess.CompletedProcess(argv, 0, "thing==1.0\n", "")

    variables = read_configuration(
        bare
        | {"PIP_INDEX_URL": "https://user:s3%2Fcret@one.test/simple", "PIP_EXTRA_INDEX_URL": "https://t0ken@two.test/x"}
        | {"HTTPS_PROXY": "http://user:s3cret@proxy.test:3128", "NO_PROXY": "two.test", "NETRC": "/home/me/netrc"}
    ).uv_variables(tmp_path)
    monkeypatch.setattr(install.subprocess, "run", run)
    assert install.resolve("thing", variables, tmp_path) == ["thing==1.0"]
    ((argv, environment),) = calls
    assert not any("s3cret" in word or "s3%2Fcret" in word or "t0ken" in word for word in argv)
    assert environment["UV_DEFAULT_INDEX"] == "https://user:s3%2Fcret@one.test/simple"
    assert environment["UV_INDEX"] == "https://t0ken@two.test/x"
    assert environment["HTTPS_PROXY"] == "http://user:s3cret@proxy.test:3128"
    assert (environment["NO_PROXY"], environment["NETRC"]) == ("two.test", "/home/me/netrc")


@pytest.mark.usefixtures("quick_pip")
def test_uv_asks_its_own_indexes_in_its_own_order(bare: dict[str, str], tmp_path: Path) -> None:
    found = read_configuration(bare | {"UV_DEFAULT_INDEX": "https://last.test/", "UV_INDEX": "https://first.test/"})
    variables = found.uv_variables(tmp_path)
    assert (variables["UV_DEFAULT_INDEX"], variables["UV_INDEX"]) == ("https://last.test/", "https://first.test/")


@pytest.mark.parametrize("code", ["401 Unauthorized", "403 Forbidden", "407 Proxy Authentication Required"])
def test_what_uv_reports_of_refused_credentials_is_called_so(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stderr = f"error: HTTP status client error ({code}) for url (https://user:s3cret@one.test:8443/simple/thing/)"
    failed = subprocess.CompletedProcess([], 2, "", stderr)
    monkeypatch.setattr(install.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(CredentialsError, match=f"answers {code[:3]}") as caught:
        install.resolve("thing", {}, tmp_path)
    assert caught.value.remedy == "Check your credentials for one.test:8443."
    assert "s3cret" not in str(caught.value)


def test_another_failure_of_uv_is_repeated_without_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 2, "", "error: no thing at https://user:s3cret@one.test/simple")
    monkeypatch.setattr(install.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(InstallError, match=r"no thing at https://\*\*\*@one\.test/simple"):
        install.resolve("thing", {}, tmp_path)


@pytest.mark.parametrize("program", ["uv", "pip"])
def test_a_program_that_does_not_end_is_a_sentence(
    program: str, bare: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(argv: list[str], **options: Any) -> None:
        raise subprocess.TimeoutExpired(argv, options["timeout"])

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(BuildMatrixError, match="within"):
        install.resolve("thing", {}, tmp_path) if program == "uv" else read_configuration(bare)


def test_settings_that_are_empty_are_no_settings(bare: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = https://pip.test/simple\n")
    empty = dict.fromkeys(
        ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_FIND_LINKS", "PIP_INDEX_URL", "PIP_FIND_LINKS"), ""
    )
    found = read_configuration(bare | empty | {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "SSL_CERT_FILE": ""})
    assert (found.endpoints, found.find_links) == (("https://pip.test/simple",), ())
    assert "SSL_CERT_FILE" not in dict(found.bundles)


def test_pips_values_hold_line_breaks_equals_signs_and_lists(bare: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://pip.test/simple?a=b=c\n"
        "extra-index-url =\n    https://two.test/simple\n    https://three.test/simple\n"
        "trusted-host =\n    two.test\n    three.test:8443\ntimeout = 7\nproxy = http://u:p=w@proxy.test:1\n"
        "client-cert = /etc/client.pem\nkeyring-provider = subprocess\n[install]\nfind-links = /a /b\n"
    )
    found = read_configuration(bare | {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf")})
    assert found.endpoints == (
        "https://pip.test/simple?a=b=c",
        "https://two.test/simple",
        "https://three.test/simple",
    )
    assert found.trusted_hosts == ("two.test", "three.test:8443")
    assert (found.stall_seconds, found.proxy, found.keyring) == (7.0, "http://u:p=w@proxy.test:1", "subprocess")
    assert (found.client_certificate, found.find_links) == ("/etc/client.pem", ("/a", "/b"))


@pytest.mark.usefixtures("quick_pip")
def test_uvs_file_has_all_that_concerns_an_index(bare: dict[str, str], tmp_path: Path) -> None:
    file = settings_file(
        tmp_path,
        'keyring-provider = "subprocess"\nallow-insecure-host = ["one.test:8443"]\nfind-links = ["/srv/wheels"]\n'
        '[[index]]\nurl = "https://explicit.test/"\nexplicit = true\n'
        '[[index]]\nurl = "https://one.test/"\nauthenticate = "always"\n[pip]\nindex-url = "https://pip.test/"\n',
    )
    found = read_configuration(bare | file | {"UV_HTTP_TIMEOUT": "90"})
    assert found.endpoints == ("https://one.test/", "https://pip.test/")
    assert (found.keyring, found.trusted_hosts, found.find_links) == (
        "subprocess",
        ("one.test:8443",),
        ("/srv/wheels",),
    )
    assert [entry.authenticate for entry in found.credentials] == ["always"]
    assert found.stall_seconds == 90.0


@pytest.mark.usefixtures("quick_pip")
def test_uv_without_an_index_has_folders_only(bare: dict[str, str]) -> None:
    found = read_configuration(bare | {"UV_NO_INDEX": "1", "UV_FIND_LINKS": "/a,/b"})
    assert (found.endpoints, found.find_links) == ((), ("/a", "/b"))


@pytest.mark.parametrize("text", ["", "soon", "-1", "0", "inf", "nan"])
@pytest.mark.usefixtures("quick_pip")
def test_a_timeout_that_is_none_is_not_followed(text: str, bare: dict[str, str]) -> None:
    assert read_configuration(bare | {"UV_HTTP_TIMEOUT": text}).stall_seconds == configuration.STALL_SECONDS


@pytest.mark.usefixtures("quick_pip")
def test_the_strongest_certificates_are_in_force_and_all_are_known(bare: dict[str, str]) -> None:
    variables = {"SSL_CERT_FILE": "/1", "PIP_CERT": "/2", "REQUESTS_CA_BUNDLE": "/3", "CURL_CA_BUNDLE": "/4"}
    found = read_configuration(bare | variables | {"SSL_CERT_DIR": "/5"})
    assert found.certificates == "/1"
    assert [path for _, path in found.bundles] == ["/1", "/2", "/3", "/4", "/5"]


@pytest.mark.usefixtures("quick_pip")
def test_uv_gets_all_certificates_as_one_file_and_its_folders(bare: dict[str, str], tmp_path: Path) -> None:
    files = [tmp_path / "1.pem", tmp_path / "2.pem"]
    for file in files:
        file.write_text(f"certificates of {file.name}")
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    variables = {"PIP_CERT": str(files[0]), "SSL_CERT_DIR": os.pathsep.join(map(str, [*folders, tmp_path / "absent"]))}
    one = read_configuration(bare | variables | {"SSL_CERT_FILE": str(files[0])}).uv_variables(tmp_path / "uv")
    assert one["SSL_CERT_FILE"] == str(files[0])
    assert one["SSL_CERT_DIR"] == os.pathsep.join(map(str, folders))
    two = read_configuration(bare | variables | {"REQUESTS_CA_BUNDLE": str(files[1])})
    joined = Path(two.uv_variables(tmp_path / "uv")["SSL_CERT_FILE"])
    assert joined.parent == tmp_path / "uv"
    assert joined.read_text() == "certificates of 1.pem\ncertificates of 2.pem"
    assert two.uv_variables(tmp_path / "uv")["SSL_CERT_FILE"] == str(joined)
    files[1].unlink()
    with pytest.raises(ConfigurationError, match=re.escape(str(files[1]))):
        two.uv_variables(tmp_path / "uv")


@pytest.mark.usefixtures("quick_pip")
def test_ssl_cert_dir_may_name_folders_that_are_absent(bare: dict[str, str], tmp_path: Path) -> None:
    found = read_configuration(bare | {"SSL_CERT_DIR": f"/nowhere{os.pathsep}{tmp_path}"})
    assert found.certificates == str(tmp_path)


@pytest.mark.usefixtures("quick_pip")
def test_a_configuration_that_is_a_folder_or_absent_is_exit_code_2(bare: dict[str, str], tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.toml"):
        with pytest.raises(ConfigurationError, match=str(path)) as caught:
            read_configuration(bare | {"UV_CONFIG_FILE": str(path)})
        assert caught.value.exit_code == 2


def test_without_any_home_there_is_no_configuration(bare: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "UV_CONFIG_FILE"):
        del bare[name]
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it does when nobody knows this user
    environments = []
    run = subprocess.run

    def watched(argv: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        environments.append(options["env"])
        return run(argv, **options)

    monkeypatch.setattr(configuration.subprocess, "run", watched)
    assert read_configuration(bare).origin == "built-in default"
    assert environments[0]["HOME"] == "/nonexistent"


def test_a_pip_configuration_that_cannot_be_read_is_exit_code_2(bare: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_bytes(b"\xff\xfe = \0\n")
    with pytest.raises(ConfigurationError, match="pip cannot read its own configuration") as caught:
        read_configuration(bare | {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf")})
    assert "\n" not in caught.value.problem


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = subprocess.CompletedProcess([], 1, "", "/usr/bin/python3: No module named pip\n")
    monkeypatch.setattr(configuration.subprocess, "run", lambda *_, **__: answer)


def test_without_pip_the_way_out_is_named(bare: dict[str, str], no_pip: None) -> None:
    with pytest.raises(ConfigurationError, match="has no pip") as caught:
        read_configuration(bare)
    assert "UV_DEFAULT_INDEX" in caught.value.remedy


def test_without_pip_uvs_index_is_enough(bare: dict[str, str], no_pip: None) -> None:
    assert read_configuration(bare | {"UV_DEFAULT_INDEX": "https://uv.test/"}).endpoints == ("https://uv.test/",)


@pytest.mark.usefixtures("quick_pip")
def test_an_index_may_be_a_folder(bare: dict[str, str], tmp_path: Path) -> None:
    assert read_configuration(bare | {"UV_DEFAULT_INDEX": str(tmp_path)}).endpoints == (tmp_path.as_uri(),)
