"""Metric names: what the words of a metric's name say about its direction."""

import re

LOWER_IS_BETTER = frozenset(
    "loss losses logloss error errors err rmse rmsle mse msle mae mape smape nll crossentropy xent "
    "ppl perplexity bpb bpc wer cer eer ece aurc brier fid regret latency time runtime "
    "duration seconds".split()
)
NOT_LOWER = frozenset(
    "accuracy acc f1 auc auroc auprc iou miou dice recall precision top1 top5 bleu rouge ndcg mrr "
    "psnr reward".split()
)


def words(metric: str) -> frozenset[str]:
    """Return the words of a metric's name: those of val_loss, and of valLoss."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", metric)
    return frozenset(re.findall(r"[a-z0-9]+", f"{metric} {apart}".lower()))


def lower_by_name(metric: str) -> bool:
    """Tell whether a metric's name says that lower is better, as rmse does."""
    found = words(metric)
    return bool(found & LOWER_IS_BETTER) or found >= {"cross", "entropy"}
