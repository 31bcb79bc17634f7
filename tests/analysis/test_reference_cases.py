"""The reference cases that were handed out, each from outside this code base."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import entr

from bench.analysis.calibration.errors import (
    ece_debiased,
    equal_mass_bins,
    signed_gap,
    squared_error,
)
from bench.analysis.data.metrics import Predictions, brier, confidence, correct, ece, nll
from bench.analysis.inference import paired_t, sign_flip, tost, two_way, wilcoxon
from bench.analysis.inference.effect_size import (
    bias_correction,
    clopper_pearson,
    effect_size,
    wilson,
)
from bench.analysis.inference.multiplicity import benjamini_hochberg, holm
from bench.analysis.inference.power import power, seeds_for
from bench.analysis.inference.sequential import anytime, boundaries

FILE = Path(__file__).resolve().parents[3] / "shared" / "cases" / "statistics.json"


def student_sleep_paired_t(baseline, treatment, alpha):
    r = paired_t(baseline, treatment, level=1 - alpha)
    t = r.difference / r.standard_error
    return {"mean": r.difference, "t": t, "df": r.df, "p": r.p_value, **limits(r)}


def fisher1935_signflip_exact(differences, alpha):
    r = sign_flip(np.zeros(len(differences)), differences, level=1 - alpha)
    count = round(r.p_value * r.patterns)
    return {"p": r.p_value, "count": count, "total": r.patterns, "k": r.k, **limits(r)}


def signflip_n5_cannot_reject(differences, alpha):
    r = sign_flip(np.zeros(len(differences)), differences, level=1 - alpha)
    assert r.reason.startswith("unbounded: ")
    return {"p": r.p_value, "k": r.k, **limits(r)}


def demsar2006_wilcoxon(baseline, treatment, round_differences_to):
    return {"p_scipy": wilcoxon(baseline, treatment).p_value}


def bh1995_multiplicity(p, alpha):
    stepped, raised = holm(p), benjamini_hochberg(p)
    return {
        "holm": stepped,
        "bh": raised,
        "holm_rejects": (stepped <= alpha).sum(),
        "bh_rejects": (raised <= alpha).sum(),
    }


def tmix_sleep_g1(differences, g, alpha):
    r = anytime(differences, g=g, level=1 - alpha)
    path = {"log_e": r.log_e, "log_e_path": r.log_e_path}
    return {**path, "anytime_p": r.running_p, **limits(r)}


def tost_small(differences, sesoi):
    t = paired_t(np.zeros(len(differences)), differences)
    r = tost(t.difference, t.standard_error, t.df, margin=sesoi)
    return {"p": r.p_value, "p_lower": r.p_lower, "p_upper": r.p_upper}


def power_noncentral_t(dz, n, alpha):
    return {"power": power(dz, 1, n, alpha=alpha), "n_for_80": seeds_for(dz, 1, alpha=alpha)}


def dz_sleep(differences, alpha):
    r = effect_size(np.zeros(len(differences)), differences, level=1 - alpha)
    return {"dz": r.d_z, "J": bias_correction(r.n - 1), "gz": r.hedges_g, **limits(r)}


def ld_obf_5_looks(looks, alpha):
    return {"z": boundaries(looks, alpha=alpha)}


def ece_15bins_3class(probs, labels, n_bins):
    predictions = Predictions(np.log(probs), np.array(labels))
    sure, right = np.max(probs, axis=1), correct(predictions)
    assert confidence(predictions) == pytest.approx(sure, abs=1e-7)
    return {
        "ece": ece(sure, right, bins=n_bins),
        # these two start from float32 log-probabilities
        "nll": pytest.approx(nll(predictions).mean(), abs=1e-7),
        "brier": pytest.approx(brier(predictions).mean(), abs=1e-7),
        "brier_top": np.mean((sure - right) ** 2),
        "overconfidence": signed_gap(sure, right),
    }


def ece_debiased_equal_mass(confidence, correct, n_bins):
    bins = equal_mass_bins(confidence, correct, bins=n_bins)
    plain = np.abs(bins.confidence - bins.correct).sum() / len(confidence)
    return {"ece": plain, "ece_debiased": ece_debiased(bins), "ce2": squared_error(bins)}


def twoway_4x6(D, alpha):
    r = two_way(D, level=1 - alpha)
    mean_squares = {"ms_seed": r.ms_seeds, "ms_image": r.ms_examples, "ms_res": r.ms_residual}
    return {"mean": r.difference, "se": r.standard_error, "df": r.df, **mean_squares, **limits(r)}


def label_smoothing_facts(y, p, eps, K):
    article = np.full(K, eps / (K - 1))
    uniform = np.full(K, eps / K)
    article[0], uniform[0] = 1 - eps, 1 - eps + eps / K
    return {
        "ce": -(np.array(y) @ np.log(p)),
        "floor_article": entr(article).sum(),
        "floor_torch": entr(uniform).sum(),
    }


def win_rate_intervals(wins, n, alpha):
    return {
        "cp": clopper_pearson(wins, n, level=1 - alpha),
        "wilson": wilson(wins, n, level=1 - alpha),
    }


def limits(result):
    return {"ci_low": result.low, "ci_high": result.high}


ANSWERS = {
    f.__name__: f
    for f in (
        student_sleep_paired_t,
        fisher1935_signflip_exact,
        signflip_n5_cannot_reject,
        demsar2006_wilcoxon,
        bh1995_multiplicity,
        tmix_sleep_g1,
        tost_small,
        power_noncentral_t,
        dz_sleep,
        ld_obf_5_looks,
        ece_15bins_3class,
        ece_debiased_equal_mass,
        twoway_4x6,
        label_smoothing_facts,
        win_rate_intervals,
    )
}


@pytest.fixture(scope="module")
def cases():
    if not FILE.exists():
        pytest.skip(f"{FILE} is not there; the other tests hold numbers of their own")
    return {case["name"]: case for case in json.loads(FILE.read_text())}


@pytest.mark.parametrize("name", ANSWERS)
def test_reproduces_the_reference(cases, name):
    case = cases[name]
    for key, answer in ANSWERS[name](**case["input"]).items():
        expected = case["expected"][key]
        if expected is None:
            assert answer is None, key
        elif isinstance(answer, type(pytest.approx(0))):
            assert expected == answer, key
        else:
            assert answer == pytest.approx(expected, abs=case["tolerance"], rel=0), key


def test_every_reference_case_is_answered(cases):
    assert set(cases) == set(ANSWERS)
