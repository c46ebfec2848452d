"""Statistics of comparisons, against values of scipy 1.17 where it has the function, else against brute force and by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from dyme.comparison.statistics import courses, paired, resampling, student, trends
from dyme.comparison.statistics.pooled import pooled

TEN = (2.1, -0.4, 3.3, 1.0, 0.2, 2.8, -1.1, 1.9, 0.7, 1.6)
SURVIVAL = {  # scipy.stats.t.sf at 0.3, 1.5 and 4, and .ppf(0.975)
    1: (0.4072264209222577, 0.18716704181099886, 0.07797913037736932, 12.706204736174694),
    2: (0.3962428304200888, 0.13619656244550055, 0.028595479208968315, 4.302652729749462),
    3: (0.3918816460199595, 0.11529193262241147, 0.014004228005073076, 3.1824463052837078),
    4: (0.3895607141387299, 0.104, 0.008065044950046273, 2.7764451051977934),
    9: (0.3854953518707624, 0.08392532802853753, 0.0015552141551929272, 2.262157162798205),
    30: (0.3831230526421764, 0.072032964564323, 0.0001909228180418782, 2.0422724563012378),
    99: (0.3824030808701287, 0.06839840885798668, 6.112576378555657e-05, 1.9842169515864174),
}


@pytest.mark.parametrize("freedom", SURVIVAL)
def test_student_is_scipys(freedom: int) -> None:
    *tails, upper = SURVIVAL[freedom]
    assert [student.above(t, freedom) for t in (0.3, 1.5, 4.0)] == pytest.approx(tails, rel=1e-9)
    assert student.quantile(0.975, freedom) == pytest.approx(upper, rel=1e-9) == -student.quantile(0.025, freedom)
    assert student.above(-1.5, freedom) == pytest.approx(1 - tails[1])


def test_student_refuses_what_has_no_value() -> None:
    with pytest.raises(ValueError, match="degree of freedom"):
        student.central(1.0, 0)
    with pytest.raises(ValueError, match="probability"):
        student.quantile(1.0, 3)


def test_paired_t_is_scipys() -> None:
    found = paired.paired_t(TEN)
    assert found is not None and found.freedom == 9
    numbers = (found.mean, found.t, found.p, found.low, found.high)
    assert numbers == pytest.approx((1.21, 2.7386283752371043, 0.022898910474432373, 0.21051785348611007, 2.20948214651389))
    assert paired.paired_t([1.0]) is None
    same, none = paired.paired_t([0.1, 0.1, 0.1]), paired.paired_t([0.0, 0.0])
    assert same and none and (same.t, same.p, none.t, none.p) == (math.inf, 0.0, 0.0, 1.0)


def test_sign_flip_counts_every_assignment() -> None:
    assert paired.sign_flip(TEN) == 0.02734375, "scipy.stats.permutation_test of samples, exact"
    for values in ((1.0, 2.0, -0.5), (0.3, 0.3, 0.3, 0.3), (1.0, -1.0), (0.0, 0.0, 1.0), (0.1, 0.2, 0.3)):
        sums = [abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in itertools.product((-1, 1), repeat=len(values))]
        assert paired.sign_flip(values) == sum(x >= abs(sum(values)) - 1e-9 for x in sums) / len(sums), values
    many = [*TEN, *TEN]
    assert paired.sign_flip(many) == pytest.approx(0.0009, abs=0.0004), "20 seeds: drawn; the t test says 0.0007"


def test_equivalence_is_two_one_sided_tests() -> None:
    assert paired.equivalence(TEN, 2.0) == pytest.approx(0.05370247824485455)
    assert paired.equivalence(TEN, 1.0) == pytest.approx(0.6770514855366636)
    assert (paired.equivalence([0.5, 0.5], 1.0), paired.equivalence([1.0, 1.0], 1.0), paired.equivalence([0.1], 1.0)) == (0.0, 1.0, None)


def test_holm_by_hand() -> None:
    assert paired.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert paired.holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0} and paired.holm({}) == {}


def test_interquartile_mean_and_pairs() -> None:
    assert paired.interquartile_mean(TEN) == pytest.approx(1.25), "scipy.stats.trim_mean at a quarter"
    assert paired.interquartile_mean([7.0]) == 7.0 and paired.interquartile_mean([0, 1, 2, 300]) == 1.5
    assert paired.above_in_pairs([3, 5, 1, 7, 5], [2, 5, 6, 0]) == 0.6, "Mann and Whitney's U of scipy over 20"


def test_two_way_bootstrap_has_the_variance_of_both_ways() -> None:
    rng = np.random.default_rng(1)
    seeds, items = 12, 400
    effect, ease = rng.normal(0, 0.05, seeds), rng.normal(0, 0.5, items)
    matrix = 0.1 + effect[:, None] + ease[None, :]
    low, high = resampling.two_way(matrix)
    wide = np.var(matrix.mean(axis=1), ddof=1) * (student.quantile(0.975, 11) / 1.96) ** 2 / seeds
    half = 1.96 * math.sqrt(wide + np.var(matrix.mean(axis=0)) / items)  # without interaction the two parts add up
    assert (high - low) / 2 == pytest.approx(half, rel=0.05) and low < matrix.mean() < high
    assert resampling.two_way(matrix) == (low, high), "the same resamples each time"


def test_two_way_bootstrap_by_brute_force() -> None:
    matrix = np.array([[1, 0, -1, 1], [0, 1, 1, 1.0]])
    low, high = resampling.two_way(matrix[:1])
    means = [np.mean([matrix[0][k] for k in drawn]) for drawn in itertools.product(range(4), repeat=4)]
    assert (low, high) == pytest.approx(tuple(np.quantile(means, (0.025, 0.975))), abs=0.01), "one seed: items alone"
    with pytest.raises(ValueError, match="seeds and items"):
        resampling.two_way(np.zeros((0, 4)))


def test_pictures_are_resampled_whole() -> None:
    rng = np.random.default_rng(2)
    each = rng.choice((-1.0, 0.0, 1.0), size=(4, 60))
    doubled, names = np.repeat(each, 3, axis=1), [f"p{k // 3}" for k in range(180)]
    assert resampling.two_way(doubled, names) == pytest.approx(resampling.two_way(each)), "three questions with one answer are one"
    apart = resampling.two_way(doubled)
    whole = resampling.two_way(each[:1])
    assert resampling.two_way(doubled[:1], names) == pytest.approx(whole) and apart != pytest.approx(resampling.two_way(each))


def test_bootstrap_over_seeds_by_brute_force() -> None:
    values = [0.0, 1.0, 4.0, 9.0]
    means = [sum(drawn) / 4 for drawn in itertools.product(values, repeat=4)]
    found = resampling.over_seeds(4, lambda chosen: sum(values[k] for k in chosen) / 4, draws=20_000)
    assert found == pytest.approx(tuple(np.quantile(means, (0.025, 0.975))), abs=0.3)
    wide = resampling.over_seeds(4, lambda chosen: sum(values[k] for k in chosen) / 4, draws=20_000, widen=True)
    assert found and wide and wide[1] - 3.5 == pytest.approx((found[1] - 3.5) * resampling.widening(4))
    assert resampling.over_seeds(3, lambda chosen: None, draws=50) is None


def test_slope_is_least_squares() -> None:
    points = {1: [(0.0, 0.1), (0.3, 1.9), (0.5, 3.2)], 2: [(0.0, -0.5), (0.3, 2.5), (0.5, 2.2)], 3: [(0.3, 3.0)]}
    found = trends.slope(points)
    assert found and found.value == pytest.approx(6.112359550561798), "scipy.stats.linregress of all points"
    assert found.low < found.value < found.high and (found.seeds, found.places) == (3, 3)
    exact = trends.slope({seed: [(x, 2 * x + 1) for x in (0, 1, 3)] for seed in range(4)})
    assert exact and (exact.value, exact.low, exact.high) == pytest.approx((2, 2, 2)), "a line without noise has no interval"
    assert trends.slope({1: [(0.0, 1.0), (1.0, 2.0)]}) is None and trends.slope({1: [(1.0, 2.0)], 2: [(1.0, 3.0)]}) is None


def test_logit_has_a_value_at_both_ends() -> None:
    assert trends.logit(0, 200) == -trends.logit(200, 200) == pytest.approx(math.log(0.5 / 200.5))
    assert trends.logit(50, 100) == 0


def test_courses_by_hand() -> None:
    curve = [[32, 256, 5000, 1000, 0.2], [64, 512, 10_000, 2000, None], [96, 768, 15_000, 3000, 0.4], [128, 1024, 20_000, 4000, 0.6]]
    points = courses.course(curve, "tokens")
    assert points == [(6000, 0.2), (18_000, 0.4), (24_000, 0.6)] and courses.course(curve, "completions")[0] == (256, 0.2)
    assert courses.accuracy_at(points, 24_000) == 0.6 and courses.accuracy_at(points, 19_000) == 0.4
    assert courses.accuracy_at(points, 12_000) is None, "no step in the last tenth before it"
    whole = (6000 * 0.2 + 12_000 * 0.3 + 6000 * 0.5) / 24_000
    assert courses.area(points, 24_000) == pytest.approx(whole)
    assert courses.area(points, 12_000) == pytest.approx((6000 * 0.2 + 6000 * 0.25) / 12_000), "cut between two points"
    assert courses.area(points, 30_000) is None and courses.area([], 10) is None, "a course that ends earlier has none"


def test_pooled_by_hand() -> None:
    one = pooled([{"value": 0.4, "low": 0.3, "high": 0.5, "n": 100}])
    assert one == pytest.approx({"value": 0.4, "low": 0.3, "high": 0.5, "n": 100, "seeds": 1})
    two = pooled([{"value": 0.4, "low": 0.3, "high": 0.5, "n": 100}, {"value": 0.6, "low": 0.48, "high": 0.72, "n": 100}])
    half = math.hypot(0.11, 12.7062 * math.sqrt(0.02) / math.sqrt(2))  # items: (0.1 + 0.12) / 2; deviation of 0.4, 0.6: sqrt(0.02)
    assert half > 0.5 and two == pytest.approx({"value": 0.5, "low": 0.0, "high": 1.0, "n": 100, "seeds": 2}), "a share's is cut"
    beyond = pooled([{"value": 1.4, "low": 1.3, "high": 1.5, "n": 100}, {"value": 1.6, "low": 1.48, "high": 1.72, "n": 100}])
    assert (beyond["low"], beyond["high"]) == pytest.approx((1.5 - half, 1.5 + half), rel=1e-5)
    three = pooled([{"value": v, "low": v, "high": v, "n": 10} for v in (1.0, 2.0, 3.0)])
    assert three["high"] - three["value"] == pytest.approx(4.30265 / math.sqrt(3))
    many = pooled([{"value": v, "low": v, "high": v, "n": 10} for v in range(20)])
    assert many["high"] - many["value"] == pytest.approx(2.0930 * math.sqrt(35 / 20), rel=1e-4)
