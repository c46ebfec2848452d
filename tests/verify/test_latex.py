"""One notation for mathematical answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyme.verify.notation.latex import expression


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2√3", r"2\sqrt{3}"),
        ("2*sqrt(3)", r"2 \times \sqrt 3"),
        ("$\\dfrac{1}{2}$", r"\frac12"),
        (r"\boxed{7}", "$7$"),
        (r"\left(2,\,3\right)", "(2, 3)"),
        ("x²", "x^{2}"),
        ("x**2", "x^2"),
        ("5π", r"5 \pi"),
        ("x <= 3", r"x \leq 3"),
        ("1,000", "1000"),
        ("x^(2)", "x^2"),
    ],
)
def test_the_same_notation(one: str, other: str) -> None:
    assert expression(one).canonical == expression(other).canonical


@pytest.mark.parametrize(
    ("text", "variable", "canonical", "unit"),
    [
        ("x = 5", "x", "5", ()),
        ("f(x)=x+1", "f(x)", "x+1", ()),
        (r"m\angle ABC = 30°", r"m\angleABC", "30", ("degree",)),
        ("Surface Area $=9.86 \\mathrm{~m}^{2}$", "", "9.86", ("metre^2",)),
        ("$\\mathrm{SA}=32.5 \\mathrm{~cm}^{2}$", "", "32.5", ("centimetre^2",)),
        ("56.55 units $^{3}$", "", "56.55", ("unit^3",)),
        ("118°T", "", "118", ("degree",)),
        ("66^\\circ", "", "66", ("degree",)),
        ("the area is 12 square cm", "", "12", ("centimetre^2",)),
        ("4.4 m", "", "4.4", ("metre",)),
        ("4m", "", "4m", ()),
        ("25\\%", "", "25", ("%",)),
        ("x^2+y^2=1", "", "x^2+y^2=1", ()),
        ("1<x=y", "", "1<x=y", ()),
    ],
)
def test_parts(text: str, variable: str, canonical: str, unit: tuple[str, ...]) -> None:
    found = expression(text)
    assert (found.variable, found.canonical, found.unit) == (variable, canonical, unit)


def test_an_equation_keeps_its_variable() -> None:
    assert expression("y=2x+3").whole == "y=2x+3" and expression("Volume = 5").whole == "5"


@given(st.text(max_size=300) | st.text(alphabet="\\{}[]()$^_= frac12sqrtcm.,", max_size=300))
def test_any_text_is_read(text: str) -> None:
    assert expression(text) == expression(text) and "\n" not in expression(text).body
