"""Package manifests of the decoder: one version, no missing file, and accepted by the tools they are written for.

``pip install platformio idf-component-manager kconfiglib`` provides those tools. Where they live in an environment of
their own, put its bin folder on PATH (and its packages on PYTHONPATH for kconfiglib). Without one its test is skipped.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DECODER = ROOT / "decoder_c"
HEADER = (DECODER / "cwb.h").read_text()
VERSION = re.search(r'#define CWB_VERSION "([^"]+)"', HEADER)[1]  # type: ignore[index]
OPTIONS = sorted(set(re.findall(r"\bCWB_NO_([A-Z0-9]+)\b", HEADER)))


def tool(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name}: pip install {package} (or your system's package) to check the manifest with it")
    return found


def run(*command: object, cwd: Path | None = None, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, env=os.environ | environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def properties() -> dict[str, str]:
    """library.properties."""
    lines = (DECODER / "library.properties").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def found_in(path: str, pattern: str) -> str | None:
    """What a pattern's group finds in a file of the repository."""
    match = re.search(pattern, (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
    return match and match[1]


def test_one_version() -> None:
    """cerwu_onnx/_version.py says it; pyproject.toml reads it there, and whatever cannot is held equal here."""
    versions = {
        path: found_in(path, pattern)
        for path, pattern in (
            ("cerwu_onnx/_version.py", r'^__version__ = "(.+)"$'),
            ("decoder_c/CMakeLists.txt", r"project\(cwb VERSION (\S+)"),
            ("decoder_c/idf_component.yml", r'^version: "(.+)"$'),
            ("decoder_c/library.json", r'^  "version": "(.+)",$'),
            ("decoder_c/library.properties", r"^version=(.+)$"),
            ("js/package.json", r'^  "version": "(.+)",$'),
            ("js/package-lock.json", r'^  "version": "(.+)",$'),
            ("CITATION.cff", r"^version: (.+)$"),
            ("CHANGELOG.md", r"^## (\d\S*)$"),  # the first heading: the newest version
        )
    }
    assert set(versions.values()) == {VERSION}, versions


@pytest.mark.parametrize("folder", [".", "reader"])
def test_python_reads_the_version(folder: str) -> None:
    manifest = (ROOT / folder / "pyproject.toml").read_text(encoding="utf-8")
    assert 'dynamic = ["version"]' in manifest
    source = re.search(r'^provider = "scikit_build_core.metadata.regex"\ninput = "(.+)"$', manifest, re.MULTILINE)
    assert source is not None
    assert (ROOT / folder / source[1]).resolve() == ROOT / "cerwu_onnx/_version.py"


def test_library_json_names_files_that_exist() -> None:
    manifest = json.loads((DECODER / "library.json").read_text())
    build = manifest["build"]
    assert (DECODER / build["includeDir"] / manifest["headers"]).is_file()
    for entry in build["srcFilter"]:
        assert entry == "-<*>" or (DECODER / build["srcDir"] / entry[2:-1]).is_file()
    for example in manifest["examples"]:
        assert all((DECODER / example["base"] / name).is_file() for name in example["files"])
    for pattern in manifest["export"]["include"]:
        assert list(DECODER.glob(pattern)), pattern


def test_packages_carry_the_license() -> None:
    assert (DECODER / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert "LICENSE" in json.loads((DECODER / "library.json").read_text())["export"]["include"]
    assert '- "LICENSE"' in (DECODER / "idf_component.yml").read_text()


def test_arduino_finds_header_and_sources() -> None:
    """Arduino compiles every C file of src/, with src/ as the only include folder: so the kernels are headers."""
    assert {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures"} <= (
        properties().keys()
    )
    assert (DECODER / "src" / properties()["includes"]).is_file()
    assert [path.name for path in (DECODER / "src").iterdir() if path.suffix != ".h"] == ["cwb.c"]


def test_every_build_option_is_offered() -> None:
    loop = re.compile(r"foreach\(option ([A-Z1 ]+)\)")
    for path in ("CMakeLists.txt", "zephyr/CMakeLists.txt"):
        match = loop.search((DECODER / path).read_text())
        assert match is not None
        assert sorted(match[1].split()) == OPTIONS, path
    assert sorted(re.findall(r"^config CWB_(\w+)", (DECODER / "zephyr/Kconfig").read_text(), re.MULTILINE)) == OPTIONS


def test_platformio(tmp_path: Path) -> None:
    pio = tool("pio", "platformio")
    shutil.copytree(DECODER, tmp_path / "cwb", ignore=shutil.ignore_patterns("build"))
    manifest = json.loads((DECODER / "library.json").read_text())
    assert manifest.pop("license") == "Apache-2.0"  # pio would look it up in the network
    (tmp_path / "cwb/library.json").write_text(json.dumps(manifest))
    core = str(tmp_path / "core")
    run(pio, "pkg", "pack", "-o", tmp_path / "cwb.tar.gz", tmp_path / "cwb", PLATFORMIO_CORE_DIR=core)
    with tarfile.open(tmp_path / "cwb.tar.gz") as archive:
        names = set(archive.getnames())
    assert {"cwb.h", "cwb.c", "library.json", "examples/bare_metal.c"} <= names
    assert not any("host" in name or "encode" in name for name in names)


def test_esp_idf(tmp_path: Path) -> None:
    compote = tool("compote", "idf-component-manager")
    run(
        compote, "component", "pack", "--name", "cwb", "--dest-dir", tmp_path, cwd=DECODER, IDF_TOOLS_PATH=str(tmp_path)
    )
    (packed,) = tmp_path.glob("*.tgz")
    with tarfile.open(packed) as archive:
        files = {member.name.removeprefix("./") for member in archive.getmembers() if member.isfile()}
    example = {path.relative_to(DECODER).as_posix() for path in (DECODER / "examples/esp_idf").rglob("*.*")}
    assert files == {"cwb.h", "cwb.c", "CMakeLists.txt", "README.md", "LICENSE", "idf_component.yml"} | example


def test_zephyr_module() -> None:
    yaml = pytest.importorskip("yaml", reason="no PyYAML: pip install pyyaml to read zephyr/module.yml")
    module = yaml.safe_load((DECODER / "zephyr/module.yml").read_text())
    assert module["name"] == "cwb"
    assert (DECODER / module["build"]["cmake"] / "CMakeLists.txt").is_file()
    assert (DECODER / module["build"]["kconfig"]).is_file()
    for sample in module["samples"]:
        about = yaml.safe_load((DECODER / sample / "sample.yaml").read_text())
        assert about["sample"]["name"]
        assert about["tests"]
        sources = re.search(r"target_sources\(app PRIVATE (\S+) ", (DECODER / sample / "CMakeLists.txt").read_text())
        assert sources is not None
        assert (DECODER / sample / sources[1]).is_file()


def test_esp_idf_example_uses_this_component() -> None:
    yaml = pytest.importorskip("yaml", reason="no PyYAML: pip install pyyaml to read idf_component.yml")
    assert "examples/esp_idf/**/*" in yaml.safe_load((DECODER / "idf_component.yml").read_text())["files"]["include"]
    main = DECODER / "examples/esp_idf/main"
    needs = yaml.safe_load((main / "idf_component.yml").read_text())["dependencies"]["cwb"]
    assert (main / needs["override_path"]).resolve() == DECODER
    assert needs["version"] == f">={VERSION}"


def test_zephyr_kconfig() -> None:
    kconfiglib = pytest.importorskip(
        "kconfiglib", reason="no kconfiglib: pip install kconfiglib to check zephyr/Kconfig"
    )
    config = kconfiglib.Kconfig(str(DECODER / "zephyr/Kconfig"))
    config.syms["CWB"].set_value("y")
    config.syms["CWB_FLOAT"].set_value("n")
    values = {name: config.syms[f"CWB_{name}"].str_value for name in OPTIONS}
    assert values == {name: "n" if name in ("FLOAT", "V1") else "y" for name in OPTIONS}  # V1: off unless asked for


def test_zephyr_cmake(tmp_path: Path) -> None:
    """zephyr/CMakeLists.txt with Zephyr's functions replaced by ones that tell what they were given."""
    cmake = tool("cmake", "cmake")
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.15)\nproject(fake NONE)\nset(CONFIG_CWB y)\n"
        + "".join(f"set(CONFIG_CWB_{name} y)\n" for name in OPTIONS if name != "ANS")
        + "foreach(name library_named library_sources include_directories compile_definitions)\n"
        '  cmake_language(EVAL CODE "function(zephyr_${name})\\nmessage(\\"${name}: \\${ARGN}\\")\\nendfunction()")\n'
        f"endforeach()\nadd_subdirectory({DECODER.as_posix()}/zephyr cwb)\n"
    )
    done = subprocess.run([cmake, "-S", tmp_path, "-B", tmp_path / "b"], capture_output=True, text=True, check=True)
    told = [line for line in done.stderr.splitlines() if ": " in line]
    assert told == [
        "library_named: cwb",
        "library_sources: ../cwb.c",
        "include_directories: ..",
        "compile_definitions: CWB_NO_ANS",
    ]


def test_cmake_and_pkg_config(tmp_path: Path) -> None:
    """Build, install, and use what was installed: by find_package and by pkg-config."""
    cmake = tool("cmake", "cmake")
    prefix, build = tmp_path / "prefix", tmp_path / "build"
    run(cmake, "-S", DECODER, "-B", build, f"-DCMAKE_INSTALL_PREFIX={prefix}", "-DCWB_NO_ANS=ON")
    run(cmake, "--build", build)
    run(cmake, "--install", build)
    user = tmp_path / "user"
    user.mkdir()
    (user / "main.c").write_text(
        '#include "cwb.h"\n#ifndef CWB_NO_ANS\n#error "options are lost"\n#endif\n'
        "int main(void) { cwb_file file; return cwb_open(&file, 0, 0) == CWB_ERR_TRUNCATED ? 0 : 1; }\n"
    )
    (user / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.15)\nproject(user C)\nfind_package(cwb REQUIRED)\n"
        "add_executable(main main.c)\ntarget_link_libraries(main cwb::cwb)\n"
    )
    run(cmake, "-S", user, "-B", user / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
    run(cmake, "--build", user / "build")
    run(user / "build/main")

    config = tool("pkg-config", "pkgconf")
    (folder,) = prefix.rglob("pkgconfig")
    flags = run(config, "--cflags", "--libs", "cwb", PKG_CONFIG_PATH=str(folder)).split()
    assert run(config, "--modversion", "cwb", PKG_CONFIG_PATH=str(folder)).strip() == VERSION
    run(tool("cc", "ziglang"), user / "main.c", *flags, "-o", user / "by-pkg-config")
    run(user / "by-pkg-config")
