import numpy as np
import pytest
from scipy import stats

from bench.analysis.data.metrics import correct


def best_of(s, arm):
    """Return each seed's best validation accuracy over epochs, by plain numpy."""
    rows = s.tables.epochs[s.tables.epochs.arm == arm]
    return np.array(
        [max(rows[rows.seed == seed]["val/accuracy"]) for seed in s.tables.finished(arm)]
    )


@pytest.mark.parametrize("early_stop", [False, True])
def test_the_claims_own_protocol_is_recomputed_from_the_epochs(simulate, early_stop):
    s = simulate(n_seeds=14, early_stop=early_stop, n_epochs=10, claim=0.01)
    found = s.findings().comparisons[0].claim
    base, other = best_of(s, "baseline"), best_of(s, "smoothed")
    sd = (other - base).std(ddof=1)
    step = 1 / 200
    assert found.chance_without_effect == pytest.approx(1 - stats.norm.cdf((0.01 - step / 2) / sd))
    both = np.sqrt(base.var(ddof=1) + other.var(ddof=1))
    assert found.chance_unpaired == pytest.approx(1 - stats.norm.cdf((0.01 - step / 2) / both))
    reached = np.mean(
        [abs(d) >= 0.01 - step / 2 - 1e-12 for d in other - base]
    ) / 2  # each pair counts half with either sign  # fmt: skip
    assert found.chance_observed == pytest.approx(reached)
    assert found.likelihood_ratio == pytest.approx(np.exp(0.5 * (0.01 / sd) ** 2))
    quantiles = stats.chi2.ppf((0.975, 0.025), 13)
    limits = [1 - stats.norm.cdf((0.01 - step / 2) / (sd * np.sqrt(13 / q))) for q in quantiles]
    assert (found.chance_low, found.chance_high) == pytest.approx(tuple(sorted(limits)))


def test_the_best_epoch_flatters_by_validation_minus_test(simulate):
    s = simulate(n_seeds=8)
    found = s.findings().comparisons[0].claim
    gaps = [
        correct(s.tables.predictions[arm, seed, "validation"]).mean()
        - correct(s.tables.predictions[arm, seed, "test"]).mean()
        for arm in ("baseline", "smoothed")
        for seed in range(8)
    ]
    assert found.best_epoch_optimism == pytest.approx(np.mean(gaps))
    assert found.optimism_low < found.best_epoch_optimism < found.optimism_high


@pytest.mark.parametrize(
    ("claim", "reading"),
    [(0.04, "compatible"), (0.2, "larger"), (0.001, "smaller"), (-0.02, "contradicted")],
)
def test_the_claim_is_read_against_the_verdict_interval(simulate, claim, reading):
    found = simulate(n_seeds=10, effect=0.04, claim=claim).findings().comparisons[0].claim
    assert found.reading == reading


def test_a_claim_outside_an_equivalent_interval_is_contradicted(simulate):
    s = simulate(n_seeds=12, effect=0.0, noise=0.004, margin=0.03, claim=0.05)
    c = s.findings().comparisons[0]
    assert (c.verdict.word, c.claim.reading) == ("equivalent", "contradicted")


def test_without_a_claim_there_is_nothing_to_read(simulate):
    assert simulate(n_seeds=6, claim=None).findings().comparisons[0].claim is None


def test_without_epochs_the_claim_is_only_read(known):
    found = known("scores_only").comparisons[0].claim
    assert found.reading == "smaller"
    assert found.chance_without_effect is None
    assert found.reason == "no validation accuracy by epoch"


def test_a_run_without_logged_validation_is_said(simulate):
    s = simulate(n_seeds=8)
    rows = s.tables.epochs
    rows = rows[(rows.arm != "smoothed") | (rows.seed != 3)]
    found = s.changed(epochs=rows).findings().comparisons[0].claim
    assert found.reason == "some runs logged no validation accuracy"
    assert found.reading is not None


def test_a_claimed_gain_in_a_loss_is_a_fall(simulate):
    s = simulate(
        n_seeds=10, effect=-0.0496, claim=0.05, metric="loss", higher_is_better=False,
        scores_only=True,
    )  # fmt: skip
    f = s.findings()
    assert f.comparisons[0].claim.reading == "compatible"  # "ruled out" before
    assert f.comparisons[0].claim.value == -0.05
    risen = simulate(
        n_seeds=10, effect=0.0496, claim=0.05, metric="loss", higher_is_better=False,
        scores_only=True,
    )  # fmt: skip
    assert risen.findings().comparisons[0].claim.reading == "contradicted"


def test_where_runs_differ_by_an_image_the_observed_share_is_quoted(simulate):
    s = simulate(n_seeds=10, n_val=50, noise=0.001, claim=0.003)
    rows = s.tables.epochs.copy()
    rows["val/accuracy"] = 0.9 + 0.02 * ((rows.arm == "smoothed") & (rows.seed < 2))
    found = s.changed(epochs=rows).findings().comparisons[0].claim
    assert found.chance_without_effect == found.chance_observed == pytest.approx(0.1)
    assert (found.chance_low, found.chance_high, found.chance_unpaired) == (None, None, None)
