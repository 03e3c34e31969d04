from __future__ import annotations

from pathlib import Path

import pytest

from kiss3d_cli.core.cache import cache_folder
from kiss3d_cli.core.errors import Missing
from kiss3d_cli.core.packages import EXTRAS, require_packages
from kiss3d_cli.methods.registry import methods


def test_what_is_there_and_what_is_not(monkeypatch):
    monkeypatch.setitem(EXTRAS, "no_such_package", "flux")
    monkeypatch.setitem(EXTRAS, "nor_this", "matting")
    require_packages(["torch"], "here")
    require_packages([], "here")
    with pytest.raises(Missing, match="no_such_package is not installed") as caught:
        require_packages(["torch", "no_such_package", "no_such_package"], "here")
    assert caught.value.hint.startswith("pip install 'kiss3d[flux]'")
    with pytest.raises(Missing, match="no_such_package, nor_this are not installed") as caught:
        require_packages(["no_such_package", "nor_this"], "here")
    assert caught.value.hint.startswith("pip install 'kiss3d[flux,matting]'")


def test_every_package_of_a_method_has_an_extra():
    named = {name for stage in methods().values() for method in stage.values() for name in method.packages}
    assert named <= set(EXTRAS)


@pytest.mark.parametrize(
    ("system", "environment", "expected"),
    [
        ("linux", {"KISS3D_CACHE": "/some/where"}, "/some/where"),
        ("linux", {"XDG_CACHE_HOME": "/xdg"}, "/xdg/kiss3d"),
        ("linux", {}, "/home/me/.cache/kiss3d"),
        ("darwin", {}, "/home/me/Library/Caches/kiss3d"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/kiss3d/Cache"),
        ("win32", {}, "/home/me/AppData/Local/kiss3d/Cache"),
    ],
)
def test_where_the_cache_is(monkeypatch, system, environment, expected):
    for name in ("KISS3D_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    assert cache_folder() == Path(expected)
