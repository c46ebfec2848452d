"""Mathematical answers: equal, different, hostile."""

from __future__ import annotations

from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyme.types import Judgement, Sample
from dyme.verify import worker
from dyme.verify.answers.mathematics import forget, readable, same_mathematics, same_symbolically
from dyme.verify.notation.words import plain


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No verdict hangs on how busy the machine is."""
    monkeypatch.setattr(worker.shared(), "seconds", 60.0)


CHEAP = [
    ("15/8", r"\frac{15}{8}"),
    ("15/8", "1.875"),
    (r"2\sqrt{3}", r"\sqrt{12}"),
    ("2*sqrt(3)", "2√3"),
    ("1/sqrt(3)", r"\frac{\sqrt{3}}{3}"),
    ("5", "x=5"),
    ("$h=58$", "58"),
    ("66", "66°"),
    ("66", r"66^\circ"),
    ("66", "66 degrees"),
    ("118°T", "118"),
    (r"217 ^\circ T", "217°"),
    ("(0,2]", "(0, 2]"),
    (r"$[-5,-3) \cup(-3,5]$", "[-5,-3)∪(-3,5]"),
    ("Center $=(20,10)$", "(20, 10)"),
    (r"Volume $=113.10 \mathrm{~cm}^{3}$", "113.1 cm³"),
    ("56.55 units $^{3}$", "56.55"),
    ("$y \\leq 2 x+3$", "y ≤ 2x+3"),
    ("-72+72*pi", "72(π-1)"),
    (r"\frac{338 \pi}{3}", "338π/3 mm²"),
    ("3 1/2", "7/2"),
    ("7", r"\boxed{7}"),
    ("5", "five"),
    ("56", "m∠A = 56°"),
    ("9" * 320, "9" * 320),
    (r"y=\frac{1}{2}x+3", "y=1/2x+3"),
    (r"y=\frac{1}{2}x+3", "y = 1/2 x + 3"),
    (r"y=\frac{1}{2}x+3", "½x+3"),
    (r"\frac{2}{3}x", "2/3x"),
    (r"\frac{\pi}{2}", "1/2 π"),
    (r"2\sqrt{3}", "≈3.46"),
    (r"2\sqrt{3}", r"x \approx 3.46"),
    (r"2\sqrt{3}", "2√3 ≈ 3.5 cm"),
    (r"2\sqrt{3}", r"x = 2\sqrt{3} \approx 3.46"),
    ("5", "about 5"),
    ("$12.50", "12.5 dollars"),
    ("12.50 dollars", r"\$12.50"),
    ("6 cm", "6"),
    ("6 cm", "6 centimeters"),
    ("6m", "6 m"),
    ("2/3", "2/3 apples"),
    ("6 cm^2", "6 square cm"),
    ("2=x", "x=2"),
    ("2=x", "2"),
    ("32349", r"32,\! 349"),
    ("125 miles", r"125\textnormal{ miles}"),
    (r"\begin{pmatrix}1 & 0 \\ 0 & 1\end{pmatrix}", r"\begin{bmatrix}1&0\\0&1\end{bmatrix}"),
]
ALGEBRA = [
    ("$72 x-2 x^3$", "2x(36-x^2)"),
    ("g(x)=(x+2)^2+1", "x^2+4x+5"),
    (r"$y \leq 2 x+3$", "2x+3 >= y"),
    (r"\frac{x^2}{81}+\frac{y^2}{9}=1", "x^2 + 9y^2 = 81"),
    (r"\{1,2\}", r"\{2,1\}"),
    ("(√2/2, √2/2)", r"\left(\frac{1}{\sqrt2}, \frac{\sqrt 2}{2}\right)"),
    (r"\sqrt{AB^2+BD^2}", r"\sqrt{BD^2+AB^2}"),
    (r"\frac{1}{2}", r"\sin(\frac{\pi}{6})"),
    (r"\frac{2}{3}x", "2x/3"),
    (r"\frac{2}{3x}", "2/3x"),
    (r"\frac{2}{3x}+1", "1 + 2/3x"),
]
WRONG = [
    ("5", "-5"),
    ("5", "__import__('os').system('x')"),
    ("5", "x+5"),
    ("28", "28.3"),
    ("$h=58$", "x=58"),
    ("2=x", "y=2"),
    (r"Volume $=113.10 \mathrm{~cm}^{3}$", "113.1 cm^2"),
    ("100000000000000000001", "100000000000000000000"),
    ("(0,2]", "[0,2]"),
    ("(2, 10)", "(10, 2)"),
    ("(2,2)", "2,2"),
    ("$72 x-2 x^3$", "72x-2x^2"),
    (r"$y \leq 2 x+3$", "y < 2x+3"),
    (r"S 23.5 ^\circ W", "N 23.5° W"),
    ("x+1", "no idea at all"),
    ("9" * 320, "9" * 321),
    (r"\frac{2}{3}x", "2/(3x)"),
    (r"\frac{2}{3x}", "2/3 x"),
    ("40_9", "40_8"),
    ("12", "11 6/6"),
    ("73/6", "11 7/6"),
    (r"\begin{pmatrix}1 & 0 \\ 0 & 1\end{pmatrix}", r"\begin{bmatrix}1&0\\0&2\end{bmatrix}"),
    (r"2\sqrt{3}", "3.46 ≈ 4"),
    (r"2\sqrt{3}", "2√3 ≈ 5"),
    (r"2\sqrt{3} cm", "2√3 ≈ 3.46 kg"),
    ("5", "5 ≈ x"),
    ("5", "≈"),
    *(
        ("6 cm", text)
        for text in ["6m", "6m²", "6 L", "6 liters", "6 dollars", "$6", "6$", "6 apples", "6 radians", "6 square meters", "6 cm^2", "6°"]
    ),
    ("113.10 cm^3", "113.10m"),
    ("6m", "6 cm"),
    ("$12.50", "12.50 cm"),
]


def judged(prediction: str, target: str, tolerance: float = 0.0, unit: str = "") -> Judgement:
    return same_mathematics(prediction, Sample(id="0", question="", answer=target, answer_kind="math", unit=unit), tolerance)


@pytest.mark.parametrize(("target", "prediction"), CHEAP)
def test_equal_at_a_glance(target: str, prediction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "shared", lambda: pytest.fail("the worker is not needed"))
    assert judged(prediction, target) == Judgement(True, 1.0)


@pytest.mark.parametrize(("target", "prediction"), ALGEBRA)
def test_equal_by_algebra(target: str, prediction: str) -> None:
    assert judged(prediction, target) == Judgement(True, 1.0)


@pytest.mark.parametrize(("target", "prediction"), WRONG)
def test_different(target: str, prediction: str) -> None:
    assert judged(prediction, target) == Judgement(False, 0.0)


@pytest.mark.parametrize(
    ("prediction", "target", "right"),
    [
        ("113.097", "113.10", True),
        ("36π", "113.10", True),
        ("113.09", "113.10", False),
        ("7.41", "7.4", True),
        ("7.46", "7.4", False),
        ("7", "7.4", False),
        ("3.46", r"2\sqrt{3}", True),
        ("3.5", r"2\sqrt{3}", False),
        ("3.47", r"2\sqrt{3}", False),
        ("3.33", "10/3", True),
        ("3", "10/3", False),
        ("28.4", "28", False),
    ],
)
def test_rounding(prediction: str, target: str, right: bool) -> None:
    assert judged(prediction, target).correct is right


def test_tolerance_and_units() -> None:
    assert judged("104", "100", 0.05).correct and not judged("106", "100", 0.05).correct and judged(r"6\sqrt{3}", "10", 0.05).correct
    assert judged("5 cm", "5", unit="cm").correct and not judged("5 kg", "5", unit="cm").correct
    for text in ("5m", "5 dollars", "$5", "5 apples"):
        assert not judged(text, "5", unit="cm").correct and judged(text, "5").correct
    assert judged("5 apples", "5", unit="apples").correct and not judged("5 pears", "5", unit="apples").correct


@pytest.mark.parametrize(
    ("unit", "target", "prediction"),
    [
        ("miles per hour", "60", "60 mph"),
        ("miles per hour", "60", "60 mi/h"),
        ("miles per hour", "60", "60"),
        ("mph", "60", "60 miles per hour"),
        ("wpm", "60", "60 words per minute"),
        ("feet per second", "60", "60 fps"),
        ("degrees Celsius", "30", "30°C"),
        ("degrees Celsius", "30", "30 degrees"),
        ("dollars per hour", "15", "$15"),
        ("$ per hour", "15", "$15"),
        ("$ per hour", "15", "$15 per hour"),
        ("feet", "6", "6'"),
        (r"\mathrm{cm}^{2}", "6", "6 cm²"),
    ],
)
def test_a_row_unit_in_other_words(unit: str, target: str, prediction: str) -> None:
    assert judged(prediction, target, unit=unit).correct and not judged("7" + prediction.lstrip("$")[2:], target, unit=unit).correct


@pytest.mark.parametrize(
    ("unit", "prediction"),
    [
        ("cm", "6 L"),
        ("cm", "6m"),
        ("cm", "6 miles per hour"),
        ("cm^3", "6m"),
        ("miles per hour", "6 kg"),
        ("degrees Celsius", "6°F"),
        ("feet", "6 in"),
    ],
)
def test_another_unit_than_the_row_has(unit: str, prediction: str) -> None:
    assert not judged(prediction, "6", unit=unit).correct


HOSTILE = [
    "9**9**9**9",
    "9^{9^{9}}",
    "9^9^9",
    "((x^64)^64)^64",
    "(x+y+z+w)^{50}(x+y)^{20}",
    "1e999999",
    "x" * 201,
    "(" * 20 + "x" + ")" * 20,
    "1" * 40,
    r"\sum_{n=1}^{9} n",
    r"\int x dx",
    "99999999!",
    r"\operatorname{open}(x)",
    "__import__('os').system('echo')",
    "x; y",
    'x"',
    "x & y",
    "import os",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_math_verify_never_sees(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not readable(text)
    monkeypatch.setattr(worker, "shared", lambda: pytest.fail("this must not reach the worker"))
    for target in ("5", "x+1", "[0, 1)"):
        assert not judged(text, target).correct


@pytest.mark.parametrize("text", ["x+1", r"\frac{x^2}{9}=1", r"[0,1)\cup(2,\infty)", r"\{1,2\}", "2^{n+1}", "x^{12}"])
def test_what_it_may_see(text: str) -> None:
    assert readable(text)


def test_an_overrun_is_wrong_with_a_reason_and_tried_again_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Late:
        replies: ClassVar = [None, True]

        def same(self, target: str, prediction: str) -> bool | None:
            return self.replies.pop(0)

    monkeypatch.setattr(worker, "shared", Late)
    forget()
    late = Judgement(False, 0.0, "answer takes too long to compare")
    assert judged("x+2", "x+1") == late and judged("x+2", "x+1") == judged("x+2", "x+1") == Judgement(True, 1.0)
    forget()
    Late.replies = [None, None]
    assert judged("x+2", "x+1") == judged("x+2", "x+1") == judged("x+2", "x+1") == late and not Late.replies
    forget()


def test_an_interrupted_comparison_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        interrupts: ClassVar = [True]

        def same(self, target: str, prediction: str) -> bool:
            if self.interrupts and self.interrupts.pop():
                raise KeyboardInterrupt
            return True

    monkeypatch.setattr(worker, "shared", Interrupted)
    forget()
    with pytest.raises(KeyboardInterrupt):
        same_symbolically("x+2", "x+1")
    assert same_symbolically("x+2", "x+1") is True
    forget()


mathematics = st.text(alphabet="0123456789xyab+-*/^=<>(){}[],. \\", max_size=40)
texts = st.text(max_size=60) | mathematics


@pytest.fixture
def unheard(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that says no; the real one has tests of its own."""

    class No:
        def same(self, target: str, prediction: str) -> bool:
            assert readable(target) and readable(prediction)
            return False

    monkeypatch.setattr(worker, "shared", No)
    forget()


@pytest.mark.usefixtures("unheard")
def test_any_text_is_judged() -> None:
    @given(texts, texts)
    @settings(max_examples=300)
    def every(prediction: str, target: str) -> None:
        assert 0.0 <= judged(prediction, target).score <= 1.0
        assert judged(target, target).correct == bool(plain(target))

    every()
    forget()


@given(mathematics)
@settings(max_examples=15, deadline=None)
def test_the_real_worker_lives_through_anything(text: str) -> None:
    assert isinstance(judged(text, "x^2-y"), Judgement)
    assert judged("(x-1)(x+1)", "x^2-1").correct
