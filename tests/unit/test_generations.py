"""Which generation a version of moq-relay belongs to."""

from __future__ import annotations

import pytest

from moq_token.generations import Generation, generation_of


@pytest.mark.parametrize("version", ["0.0", "0.9", "0.14", "0.14.0", "0.14.18", "v0.14.18", "V0.5", "0.014"])
def test_versions_before_0_15_are_the_first_generation(version: str) -> None:
    assert generation_of(version) is Generation.FIRST


@pytest.mark.parametrize("version", ["0.15", "0.15.0", "0.17.10", "v0.17", "0.100", "1.0", "1.0.3", "10.0"])
def test_versions_from_0_15_on_are_the_second_generation(version: str) -> None:
    assert generation_of(version) is Generation.SECOND


@pytest.mark.parametrize(
    "version",
    [
        "",
        "0",
        "14",
        "all",
        "latest",
        "0.",
        ".14",
        "0.14.",
        "0.14.1.2",
        "0.14-rc1",
        "0,14",
        " 0.14",
        "0.14\n",
        "-0.14",
        "0.١٤",
        "0.x",
        "vv0.14",
        "moq-relay 0.14",
        "0.99999999999",
    ],
)
def test_other_text_is_refused_with_the_form_that_is_expected(version: str) -> None:
    with pytest.raises(ValueError, match=r"^expected a version of moq-relay, such as 0\.14 or 0\.17\.10$"):
        generation_of(version)
