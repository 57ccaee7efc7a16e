"""The package as it is published: an sdist, a wheel made from it, and that wheel in an environment of its own."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import forgetfilter
from support.documents import ROOT


def build(kind, source, folder):
    """Build a distribution with the build backend alone, which asks no network."""
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)], cwd=source, check=True)
    (built,) = folder.glob("*.tar.gz" if kind == "sdist" else "*.whl")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling", reason="the build backend is not here: make setup")
    folder = tmp_path_factory.mktemp("dist")
    with tarfile.open(build("sdist", ROOT, folder)) as sdist:
        sdist.extractall(folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    return build("wheel", source, folder)


@pytest.mark.slow
def test_every_file_of_the_package_is_in_the_wheel(wheel):
    package = ROOT / "src" / "forgetfilter"
    of_source = {
        str(Path("forgetfilter", path.relative_to(package)))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    inside = zipfile.ZipFile(wheel).namelist()
    assert {name for name in inside if ".dist-info/" not in name} == of_source
    assert {"forgetfilter/builtin/harmful.jsonl", "forgetfilter/report/page.html"} <= of_source
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in inside)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_wheel_alone_runs_the_demo(wheel, model, tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    programs = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin")
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def call(*words):
        done = subprocess.run(words, cwd=tmp_path, env=outside, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    call(programs / "python", "-m", "pip", "install", "--no-index", "--no-deps", wheel)
    # What the package depends on is that of the present environment; no .pth file there is read, so the checkout, which
    # one of them may name, stays out of sight.
    site = call(programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    places = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (Path(site) / "dependencies.pth").write_text("\n".join([*sorted(places), ""]))
    where = call(programs / "python", "-c", "import forgetfilter; print(forgetfilter.__file__)").strip()
    assert Path(where).is_relative_to(site)
    assert call(programs / "forgetfilter", "--version").strip() == f"forgetfilter {forgetfilter.__version__}"
    assert "filter a data set into a run folder" in call(programs / "forgetfilter", "--help")
    told = call(programs / "forgetfilter", "demo", "--model", model, "--output", tmp_path / "run")
    assert "Against the known labels" in told
    assert (tmp_path / "run" / "report.html").is_file()
