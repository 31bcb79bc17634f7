"""Metric names: what the words of a metric's name say about its direction."""

import re

LOWER_IS_BETTER = frozenset(
    "loss error err rmse mse mae nll ppl perplexity wer cer eer ece aurc brier fid latency "
    "time".split()
)
NOT_LOWER = frozenset("accuracy acc f1 auc auroc iou miou dice recall precision top1 top5".split())


def words(metric: str) -> frozenset[str]:
    """Return the words of a metric's name, split at what is no letter or digit."""
    return frozenset(re.findall(r"[a-z0-9]+", metric.lower()))


def lower_by_name(metric: str) -> bool:
    """Tell whether a metric's name says that lower is better, as rmse does."""
    return bool(words(metric) & LOWER_IS_BETTER)
