"""Reading a labelled set: what is taken, and what is said about what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.errors import ConfigError
from config.routes import FieldSpec, Label, Route
from daemon.evaluation.cases import check_labels, load_cases

ROUTE = Route(name="r", labels={"bill": Label(says="A bill to pay.", fields={"total": FieldSpec(description="total")})})


def put(folder: Path, name: str, expected: str, ending: str = ".txt") -> None:
    (folder / f"{name}{ending}").write_text("Total 3.00", "utf-8")
    (folder / f"{name}.expected.toml").write_text(expected, "utf-8")


def problem_of(folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        check_labels(load_cases(folder), [ROUTE])
    return str(caught.value)


def test_a_value_may_be_one_or_several(tmp_path: Path) -> None:
    """One text is the only right value; of a list, any is."""
    put(tmp_path, "a", 'label = "bill"\n[fields]\ntotal = ["3.00", "3"]\n[may]\nvendor = "Ada"\n')
    [case] = load_cases(tmp_path)
    assert (case.fields, case.may) == ({"total": ("3.00", "3")}, {"vendor": ("Ada",)})


def test_a_half_is_a_matter_of_the_name(tmp_path: Path) -> None:
    """The two halves share nothing, make up the whole, and stay what they are when a case is added."""
    for number in range(40):
        put(tmp_path, f"case-{number}", 'label = "bill"\n')
    halves = {half: {case.name for case in load_cases(tmp_path, half)} for half in ("tuning", "unseen")}
    assert not halves["tuning"] & halves["unseen"]
    assert len(halves["tuning"] | halves["unseen"]) == 40
    put(tmp_path, "one-more", 'label = "bill"\n')
    assert halves["unseen"] <= {case.name for case in load_cases(tmp_path, "unseen")}


def test_a_name_with_special_characters_finds_its_file(tmp_path: Path) -> None:
    """Brackets in a name are no pattern, and a.b belongs to a.b.txt alone."""
    put(tmp_path, "bill [1]", 'label = "bill"\n')
    put(tmp_path, "bill.b", 'label = "bill"\n')
    assert {case.path.name for case in load_cases(tmp_path)} == {"bill [1].txt", "bill.b.txt"}


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ('label = "bil"\n', "a.expected.toml: label: no route has 'bil'; write one of: bill"),
        ('label = "bill"\n[fields]\ntotl = "3"\n', "label bill has no field 'totl'; write one of: total"),
        ('label = "bill"\nlangage = "de"\n', "a.expected.toml:2: langage: unknown key; did you mean `language`?"),
        ('label = "bill\n', "is not TOML"),
        ("[fields]\ntotal = 3\n", "a.expected.toml:2: fields.total: "),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, expected: str, said: str) -> None:
    """File, line where there is one, and what to write instead."""
    put(tmp_path, "a", expected)
    assert said in problem_of(tmp_path)


def test_a_label_without_its_file_and_one_with_two(tmp_path: Path) -> None:
    """All that is wrong is told at once."""
    put(tmp_path, "a", 'label = "bill"\n')
    (tmp_path / "a.pdf").write_bytes(b"")
    (tmp_path / "b.expected.toml").write_text('label = "bill"\n', "utf-8")
    said = problem_of(tmp_path)
    assert "a.expected.toml: has 2 files beside it" in said
    assert "b.expected.toml: has no file beside it" in said


def test_an_empty_folder_and_none(tmp_path: Path) -> None:
    """Neither is taken for a set in which all is right."""
    assert "has no labelled files" in problem_of(tmp_path)
    assert "is no folder" in problem_of(tmp_path / "nowhere")
