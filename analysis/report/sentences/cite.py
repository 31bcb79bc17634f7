"""What a paper can say: one paragraph with the numbers, and the answers for a checklist."""

from bench.analysis.data import format as form
from bench.analysis.report.sentences import common
from bench.analysis.report.sentences.verdict import reading
from bench.analysis.study.findings import Findings, Treatment


def paragraph(f: Findings, c: Treatment) -> str:
    """Return the paste-ready results paragraph."""
    u, design, p = f.measure.unit, f.design, c.primary
    base, other = f.arm(design.baseline), f.arm(c.treatment)
    verb = "raised" if (p.difference or 0) > 0 else "lowered"
    if c.verdict.word in ("none", "inconclusive", "equivalent"):
        change = (
            f"{design.baseline} reached a mean {f.metric_label} of {form.value(base.mean, u)} (SD "
            f"{form.spread(base.sd, u)}) and {c.treatment} {form.value(other.mean, u)} (SD "
            f"{form.spread(other.sd, u)}), a mean {_difference(c)} of "
            f"{common.signed_estimate(f, p)}"
        )
    else:
        change = (
            f"{c.treatment} {verb} mean {f.metric_label} from {form.value(base.mean, u)} (SD "
            f"{form.spread(base.sd, u)}) to {form.value(other.mean, u)} (SD "
            f"{form.spread(other.sd, u)}), a mean "
            f"{_difference(c)} of {common.signed_estimate(f, p)}"
        )
    parts = [f"Across {_across(f, c)}, {change}"]
    if c.verdict.word == "none":
        parts[0] += "."
    else:
        parts[0] += (
            f", {common.confidence(f, p)}, {common.adjusted_p(f, p.p_value)} ({common.method(f, p)}"
        )
        parts[0] += f"{_companions(f, c)})"
        parts[0] += f"; it won on {common.won(f, c)}." if c.effect else "."
        parts.append(_margin_sentence(f, c))
        parts.append(_scope_sentence(f, c))
        parts.append(_calibration_sentence(f, c))
    parts.append(_completeness(f))
    return " ".join(part for part in parts if part)


def _across(f: Findings, c: Treatment) -> str:
    seeds = f.design.units.are_seeds
    return form.count(c.n_pairs, "paired training seed") if seeds else common.pairs(f, c)


def _difference(c: Treatment) -> str:
    return "difference" if c.pairs.independent else "paired difference"


def _companions(f: Findings, c: Treatment) -> str:
    texts = []
    t, flip, exact = (c.analysis(name) for name in ("paired_t", "sign_flip", "mcnemar"))
    if c.primary.method != "paired_t" and t is not None and t.p_value is not None:
        texts.append(f"on this test set alone: paired t, {form.p_equation(t.p_value)}")
    if flip is not None and flip.p_value is not None:
        texts.append(f"{common.flip_name(c.n_pairs)} {form.p_equation(flip.p_value)}")
    if exact is not None and exact.p_value is not None:
        texts.append(f"McNemar’s exact {form.p_equation(exact.p_value)}")
    return "".join(f"; {text}" for text in texts)


def _margin_sentence(f: Findings, c: Treatment) -> str:
    p, v = c.primary, c.verdict
    if f.design.margin is None:
        if v.word == "inconclusive":
            return "These data do not distinguish the arms."
        return ""
    declared = "pre-declared " if f.design.frozen_before_first_run else ""
    margin = common.margin(f)
    if v.word == "equivalent":
        p_text = (
            f", {common.adjusted_p(f, c.equivalence.p_value)}"
            if c.equivalence is not None and c.equivalence.p_value is not None
            else ""
        )
        return (
            f"The {form.level(p.level90)} CI {common.limits(f, p.low90, p.high90)} lies within "
            f"±{margin} (two one-sided tests{p_text})."
        )
    if v.word == "inconclusive":
        best = p.high if f.design.higher_is_better else p.low
        if best is None:
            return "These data do not distinguish the arms."
        return (
            "These data do not distinguish the arms: the interval includes both no difference and "
            f"one of {form.difference(best, f.measure.unit)}."
        )
    if v.size_open:
        return f"The interval includes differences smaller than {margin}."
    return f"The interval lies beyond the {declared}smallest difference of interest ({margin})."


def _scope_sentence(f: Findings, c: Treatment) -> str:
    t, units = c.analysis("paired_t"), f.design.units
    if not common.columns_too(f, c):
        reached = common.reach(f, c).replace("this test set", "this fixed test set")
        return f"The interval describes {reached}."
    if t is None or t.low is None:
        return f"The interval covers {common.reach(f, c)}."
    alone = units.reach(columns_too=False).replace("this test set", "this fixed test set")
    return (
        f"The interval covers {common.reach(f, c)}; for {alone} it is "
        f"{common.limits(f, t.low, t.high)}."
    )


def _calibration_sentence(f: Findings, c: Treatment) -> str:
    raw = next((s for s in c.secondary if s.metric == "ce2"), None)
    if raw is None or raw.low is None:
        return ""
    verb = {"▲ better": "improved", "▼ worse": "worsened"}.get(reading(raw))
    shown = (
        f"{form.difference(raw.difference, raw.unit)}, {form.level(raw.level)} CI "
        f"{form.interval(raw.low, raw.high, raw.unit)}, {form.p_equation(raw.p_adjusted)}, "
        f"adjusted for {sum(not s.descriptive for s in c.secondary)} secondary outcomes"
    )
    if verb is None:
        return f"The change in squared calibration error was not resolved ({shown})."
    return f"Calibration {verb}: the squared calibration error changed by {shown}."


def _completeness(f: Findings) -> str:
    design = f.design
    planned = len(design.seeds) * len(design.arms)
    done = sum(run.status == "finished" for run in f.runs)
    failed = sum(run.status == "failed" for run in f.runs)
    if not design.benchmark_id:  # nobody planned these here
        runs = (
            f"{form.count(done, 'run')} analysed" if done else "Published summaries were analysed"
        )
        runs += f", {failed} without a value" if failed else ""
    elif done == planned:
        runs = f"All {planned} planned runs were completed and analysed"
    else:
        runs = f"{done} of {planned} planned runs were completed"
        runs += f", {failed} failed" if failed else ""
    if design.stopped_at is not None:
        rule = common.method(f, f.comparisons[0].primary)
        runs = (
            f"The planned rule ({rule}) stopped the training after {design.stopped_at} of at most "
            f"{len(design.seeds)} pairs; {done} runs were completed and analysed, those in "
            "training at the stop included"
        )
    if not design.hash:
        return f"{runs}; the analysis was not preregistered."
    if design.frozen_before_first_run and not design.analysis_changed_after_results:
        when = f"the analysis was frozen before the first run (plan {design.hash[:7]})"
    else:
        when = f"the analysis was changed after results could be seen (plan {design.hash[:7]})"
    if design.seeds_added_after_look:
        when += ", and seeds were added after results could be seen"
    return f"{runs}; {when}."


def neurips(f: Findings) -> str:
    """Return answers to items 7 and 8 of the NeurIPS checklist."""
    c = f.comparisons[0]
    hours = sum(run.duration_s or 0.0 for run in f.runs) / 3600
    devices = ", ".join(sorted({run.device for run in f.runs if run.device}))
    done = form.count(sum(run.status == "finished" for run in f.runs), "run")
    if c.verdict.word == "none":
        bars = "[No] There is no verdict and no interval to report."
    else:
        bars = (
            f"[Yes] Error bars are {form.level(c.primary.level)} confidence intervals of the mean "
            f"paired difference over {_across(f, c).replace('paired ', '')} "
            f"({common.method(f, c.primary)}; for {common.reach(f, c)}). SDs, where "
            f"given, are over {f.design.units.row.many}."
        )
    if hours and devices:
        compute = f"[Yes] {done}, {hours:.2g} device-hours in total on {devices}."
    else:
        compute = f"[No] {done}; their compute was not recorded."
    return f"7. Statistical significance. {bars}\n8. Compute. {compute}"
