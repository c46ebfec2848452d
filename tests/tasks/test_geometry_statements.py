"""Formal statements in words."""

from __future__ import annotations

import pytest

from dyme.tasks.geometry.statements import facts


@pytest.mark.parametrize(
    ("statement", "fact"),
    [
        ("Equal(LengthOfLine(CA),y)", ("length of CA", "y")),
        ("Equal(MeasureOfAngle(ADB),4*x+8)", ("angle ADB", "4*x+8")),
        ("Equal(MeasureOfAngle(ADB),2*(x+8))", ("angle ADB", "2*(x+8)")),
        ("Equal(MeasureOfArc(FDH),34)", ("arc FDH", "34")),
        ("Equal(LengthOfArc(ONM),LengthOfArc(OPQ))", ("length of arc ONM", "length of arc OPQ")),
        ("Equal(DiameterOfCircle(O),LengthOfLine(QS))", ("diameter of circle O", "length of QS")),
        ("Equal(AreaOfTriangle(ABC),40)", ("area of triangle ABC", "40")),
        ("Equal(Sub(AreaOfQuadrilateral(CBDA),AreaOfCircle(O)),x)", ("area of quadrilateral CBDA - area of circle O", "x")),
        ("PerpendicularBetweenLine(BA,DA)", ("BA", "perpendicular to DA")),
        ("ParallelBetweenLine(BA,DC)", ("BA", "parallel to DC")),
        ("SimilarBetweenTriangle(HBC,HEF)", ("triangle HBC", "similar to triangle HEF")),
        ("MirrorCongruentBetweenTriangle(RST,VTU)", ("triangle RST", "congruent to triangle VTU")),
        ("IsCentreOfCircle(F,F)", ("F", "centre of circle F")),
        ("IsTangentOfCircle(BA,O)", ("BA", "tangent of circle O")),
        ("IsAltitudeOfTriangle(EC,EDA)", ("EC", "altitude of triangle EDA")),
        ("IsMidpointOfLine(R,AB)", ("R", "midpoint of AB")),
        ("IsBisectorOfAngle(CQ,CAB)", ("CQ", "bisector of angle CAB")),
        ("Rectangle(ECGB)", ("ECGB", "rectangle")),
        ("Collinear(BXE)", ("B, X, E", "on one line")),
        ("Cocircular(O,BDE)", ("B, D, E", "on circle O")),
        ("Cocircular(HAC)", ("H, A, C", "on one circle")),
        ("Shape(BC,CA,AB)", ("BCA", "triangle")),
        ("Shape(BX,XY,YC,CB)", ("BXYC", "quadrilateral")),
        ("Shape(AT)", ("AT", "line")),
        ("Shape(FDH,DB,BH)", ("region", "bounded by arc FDH, DB, BH")),
        ("Equals(LengthOf(Line(T, R)), x+21)", ("length of TR", "x+21")),
        ("Equals(MeasureOf(Angle(T, R, S)), 4y-10)", ("angle TRS", "4y-10")),
        ("Perpendicular(Line(A, B), Line(C, D))", ("AB", "perpendicular to CD")),
        ("PointLiesOnLine(D, Line(A, B))", ("D", "on line AB")),
        ("PointLiesOnCircle(D, Circle(O, radius_0_0))", ("D", "on circle O")),
        ("Triangle(A, B, C)", ("ABC", "triangle")),
        ("Equal(LengthOfLine(CA", ("given", "Equal(LengthOfLine(CA")),
        ("x + 3", ("given", "x + 3")),
        ("", ("given", "")),
    ],
)
def test_statements(statement: str, fact: tuple[str, str]) -> None:
    assert [(one.subject, one.value) for one in facts([statement])] == [fact]


def test_repeats_are_one_fact() -> None:
    assert len(facts(["Rectangle(ABCD)", "Rectangle(ABCD)", "Rectangle(EFGH)"])) == 2


def test_a_hostile_statement_costs_nothing() -> None:
    assert facts(["(" * 100_000])[0].subject == "given"
    assert facts(["A(" * 200 + "x" + ")" * 200])[0].value
