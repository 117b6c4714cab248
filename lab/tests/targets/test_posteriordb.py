"""The reader of posteriordb checkouts: where it looks, what it returns, what it says of damage. On
a toy checkout.
"""

import json
import zipfile

import numpy as np
import pytest

from capriole_lab.targets import (
    PosteriordbError,
    Summary,
    find_posteriordb,
    make_target,
    read_data,
    reference_draws,
    reference_summary,
)
from capriole_lab.targets._posteriordb import VARIABLE

DRAWS = [{"a": [1.0, 2.0, 3.0], "b[1]": [4, 5, 6]}, {"a": [7.0, 8.0, 9.0], "b[1]": [0, 1, 2]}]
DATA, DRAWS_FILE = "data/data/toy.json.zip", "reference_posteriors/draws/draws/ref.json.zip"
SUMMARY_FILE = "reference_posteriors/summary_statistics/{0}/{0}/ref.json"


def write_zip(file, value):
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(file.stem, value if isinstance(value, str) else json.dumps(value))


def write_json(file, value):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with the posterior ``toy``, and ``bare`` without a reference; nothing else is to
    be found.
    """
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "checkout" / "posterior_database"
    write_json(
        root / "posteriors" / "toy.json", {"data_name": "toy", "reference_posterior_name": "ref"}
    )
    write_json(
        root / "posteriors" / "bare.json", {"data_name": "toy", "reference_posterior_name": None}
    )
    write_zip(root / DATA, {"N": 2, "y": [1, 2.5]})
    write_zip(root / DRAWS_FILE, DRAWS)
    for kind, values in (("mean_value", [5, 3]), ("mean_squared_value", [30, 12])):
        table = {"names": ["a", "b[1]"], kind: values, "mcse_mean": [0.1, 0.2]}
        write_json(root / SUMMARY_FILE.format(kind), table)
    return root


def test_data_draws_and_summary_are_read(checkout):
    assert read_data("toy", path=checkout) == {"N": 2, "y": [1, 2.5]}
    draws = reference_draws("toy", path=checkout)
    assert list(draws) == ["a", "b[1]"]
    np.testing.assert_array_equal(draws["b[1]"], [[4, 5, 6], [0, 1, 2]])
    assert draws["b[1]"].dtype == np.float64
    assert reference_summary("toy", path=checkout)["b[1]"] == Summary(3.0, 0.2, 12.0, 0.2)


def test_checkouts_are_found_by_path_variable_and_folder(checkout, tmp_path, monkeypatch):
    assert find_posteriordb(checkout) == find_posteriordb(checkout.parent) == checkout
    with pytest.raises(
        PosteriordbError, match=rf"no posteriordb checkout found from .*clone .*set {VARIABLE}"
    ):
        find_posteriordb()
    with pytest.raises(PosteriordbError, match="clone"):
        make_target("posteriordb/arK-arK")
    deep = tmp_path / "project" / "src"
    deep.mkdir(parents=True)
    (tmp_path / "shared" / "data").mkdir(parents=True)
    (tmp_path / "shared" / "data" / "posteriordb").symlink_to(checkout.parent)
    monkeypatch.chdir(deep)
    assert find_posteriordb().samefile(checkout)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(
        PosteriordbError, match=rf"{VARIABLE}='.*nowhere' holds no posteriordb checkout"
    ):
        find_posteriordb()  # a wrong variable is an error, not a reason to look elsewhere
    assert find_posteriordb(checkout) == checkout


def test_a_target_is_built_from_the_checkout_that_is_named(checkout):
    features = np.eye(8)[:, :5].tolist()
    write_json(
        checkout / "posteriors" / "sblrc-blr.json",
        {"data_name": "blr", "reference_posterior_name": None},
    )
    write_zip(
        checkout / "data/data/blr.json.zip", {"N": 8, "D": 5, "X": features, "y": list(range(8))}
    )
    assert make_target("posteriordb/sblrc-blr", path=checkout).dim == 6
    with pytest.raises(
        ValueError, match=r"scg is no posterior of posteriordb, so path='.*' has no effect"
    ):
        make_target("scg", path=checkout)


def test_unknown_names_and_missing_references_are_named(checkout):
    with pytest.raises(PosteriordbError, match=r"no posterior 'tyo'; did you mean 'toy'\?"):
        read_data("tyo", path=checkout)
    with pytest.raises(PosteriordbError, match=r"no posterior '\.\./posteriors/toy'"):
        read_data("../posteriors/toy", path=checkout)
    for read in (reference_draws, reference_summary):
        with pytest.raises(PosteriordbError, match="'bare' has no reference draws"):
            read("bare", path=checkout)


def damage(file, how):
    content = file.read_bytes()
    if how == "missing":
        file.unlink()
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        middle = content.index(b".json") + 12
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :])
    elif how == "noise":
        file.write_bytes(b"\xff\xfe" * 40)


READERS = {
    DATA: read_data,
    DRAWS_FILE: reference_draws,
    SUMMARY_FILE.format("mean_value"): reference_summary,
}
DAMAGE = [(file, how) for file in READERS for how in ("missing", "empty", "cut", "noise")]
DAMAGE += [
    (DATA, "flipped"),
    (DRAWS_FILE, "flipped"),
]  # a flipped byte of a plain file can be valid


@pytest.mark.parametrize(("file", "how"), DAMAGE)
def test_damaged_files_are_named(checkout, file, how):
    damage(checkout / file, how)
    with pytest.raises(PosteriordbError, match=rf"{file.rpartition('/')[2]} is missing or damaged"):
        READERS[file]("toy", path=checkout)


WRONG_DRAWS = [
    ({"a": 1}, "do not fit"),
    ([], "do not fit"),
    ([{"a": [1.0]}, {"b": [1.0]}], "do not fit"),
    ([{"a": [1.0, 2.0]}, {"a": [1.0]}], "do not fit"),
    ([{"a": [1.0, 2.0], "b": [1.0]}], "shapes"),
    ([{"a": 1.0}], "shapes"),
    ([{"a": ["x"]}], "do not fit"),
    ('[{"a": [1.0, NaN]}]', "draws of a that are not finite"),
    ([{}], "shapes"),
]


@pytest.mark.parametrize(("draws", "message"), WRONG_DRAWS)
def test_draws_that_do_not_fit_are_named(checkout, draws, message):
    write_zip(checkout / DRAWS_FILE, draws)
    with pytest.raises(
        PosteriordbError, match=rf"ref\.json\.zip is missing or damaged \(.*{message}"
    ):
        reference_draws("toy", path=checkout)


def test_other_files_that_do_not_fit_are_named(checkout):
    write_json(
        checkout / SUMMARY_FILE.format("mean_value"),
        {"names": ["a"], "mean_value": [1, 2], "mcse_mean": [1]},
    )
    with pytest.raises(PosteriordbError, match=r"ref\.json is missing or damaged"):
        reference_summary("toy", path=checkout)
    write_json(
        checkout / SUMMARY_FILE.format("mean_value"),
        {"names": ["c"], "mean_value": [1], "mcse_mean": [1]},
    )
    with pytest.raises(PosteriordbError, match=r"parameters \['a', 'b\[1\]'\] instead of \['c'\]"):
        reference_summary("toy", path=checkout)
    write_zip(checkout / DATA, [1, 2])
    with pytest.raises(PosteriordbError, match="a list instead of named values"):
        read_data("toy", path=checkout)
    write_json(checkout / "posteriors" / "toy.json", {})
    with pytest.raises(
        PosteriordbError, match=r"toy\.json is missing or damaged .*no field data_name"
    ):
        read_data("toy", path=checkout)
