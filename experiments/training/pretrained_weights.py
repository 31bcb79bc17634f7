"""Pretrained weights: from ImageNet, from a file, or none."""

import warnings
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor

from bench.analysis.errors import Refusal
from bench.experiments.data.download_cache import (
    DownloadFailed,
    download,
    offline,
    reachable,
    sha256_of,
    shown,
)

MODELS = tuple(torchvision.models.list_models(module=torchvision.models, include="*resne*"))

State = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]


class BadWeights(Refusal):
    """Weights that are not there, cannot be read, or belong to another network."""

    code = "weights"
    exit_status = 4


def fetch(weights: str, model: str) -> dict[str, Any]:
    """Make the weights ready, downloading them if need be, and return what a run records of them.

    Parameters
    ----------
    weights : "imagenet", "none" or a file with a state dict
    model : a torchvision ResNet, one of `MODELS`

    Raises
    ------
    BadWeights : no file, no network, a file that is damaged or of another network
    """
    if weights == "none":
        return {"weights": "none", "weights_note": "no pretrained weights: the trunk is random"}
    if weights == "imagenet":
        _download_imagenet(model)
    read(weights, model)
    path = _path(weights, model)
    facts = {"weights": path.name, "weights_sha256": sha256_of(path)}
    if weights != "imagenet":
        facts["weights_note"] = f"weights from {path.name}, not ImageNet"
    return facts


def missing(weights: str, model: str) -> str | None:
    """Say within seconds why `fetch` would find no weights; None where they can be had."""
    path = _path(weights, model)
    if weights == "none" or path.is_file():
        return None
    if weights == "imagenet" and reachable(_imagenet_url(model)):
        return None
    return f"the weights {path.name} are not in {shown(path.parent)}" + (
        " and cannot be downloaded" if weights == "imagenet" else ""
    )


@lru_cache(maxsize=2)
def read(weights: str, model: str) -> State | None:
    """Return the pretrained tensors without the classifier `fc`, on the CPU, float32.

    The file is read without running anything it may contain. Half precision is widened; None
    where `weights` is "none".

    Raises
    ------
    BadWeights : no file, not a state dict, other tensors than `model` has, or NaN
    """
    if weights == "none":
        return None
    path = _path(weights, model)
    if not path.is_file():
        raise BadWeights(
            f"weights file {shown(path)} not found.",
            facts=["--set weights= takes imagenet, none, or a file with a state dict."],
            settings={"weights": "FILE"},
        )
    state = {k: v for k, v in _state_dict(path).items() if not k.startswith("fc.")}
    _require_fit(state, model, path)
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def _path(weights: str, model: str) -> Path:
    if weights == "imagenet":
        return Path(torch.hub.get_dir()) / "checkpoints" / _imagenet_url(model).rsplit("/", 1)[-1]
    return Path(weights).expanduser()


def _imagenet_url(model: str) -> str:
    # V1, the weights of the original training recipe: every ResNet has them.
    return str(torchvision.models.get_model_weights(model)["IMAGENET1K_V1"].url)


def _download_imagenet(model: str) -> None:
    """Fetch torchvision's file to where torch.hub keeps it; its name ends in its sha256."""
    url, path = _imagenet_url(model), _path("imagenet", model)
    prefix = path.stem.rsplit("-", 1)[-1]
    if path.is_file() and sha256_of(path).startswith(prefix):
        return
    try:
        download(url, path, sha256=prefix)
    except DownloadFailed as failure:
        failed = f"{failure}" if offline() else f"the download failed: {failure}"
        raise BadWeights(
            f"the ImageNet weights of {model} are not in {shown(path.parent)}, and {failed}.",
            facts=[f"Needed: {path.name} from {url}, sha256 {prefix}…"],
            fix="with that file, or another state dict:",
            settings={"weights": "FILE"},
        ) from failure


def _state_dict(path: Path) -> State:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the refusal below says it
            found = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # a damaged or hostile file can fail in any way
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BadWeights(
            f"{shown(path)} cannot be read as weights; nothing in it was run.",
            facts=[f"torch.load(weights_only=True): {reason}"],
            fix="save it again with torch.save(model.state_dict(), FILE)",
        ) from error
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        keys = ", ".join(map(str, list(found)[:6])) if isinstance(found, dict) else type(found)
        raise BadWeights(
            f"{shown(path)} is not a state dict: a dict from names to tensors.",
            facts=[f"Found: {keys}."],
            fix="save it again with torch.save(model.state_dict(), FILE)",
        )
    return found


def _require_fit(state: State, model: str, path: Path) -> None:
    wanted, found = _shapes(model), {name: tuple(v.shape) for name, v in state.items()}
    if found == wanted:
        if bad := [k for k, v in state.items() if not torch.isfinite(v).all()]:
            raise BadWeights(
                f"{shown(path)} holds NaN or infinity, first in {bad[0]}.",
                fix="with another file:",
                settings={"weights": "FILE"},
            )
        return
    lists = {
        "Missing": sorted(wanted.keys() - found.keys()),
        "Not in the network": sorted(found.keys() - wanted.keys()),
        "Other shape": sorted(k for k in wanted.keys() & found.keys() if wanted[k] != found[k]),
    }
    fits = [name for name in MODELS if _shapes(name) == found]
    raise BadWeights(
        f"{shown(path)} does not fit {model}.",
        facts=[f"{what}: {len(k)} tensors, first {k[0]}." for what, k in lists.items() if k],
        settings={"model": fits[0] if fits else "NAME", "weights": str(path)},
    )


@cache
def _shapes(model: str) -> Shapes:
    with torch.device("meta"):
        net = torchvision.models.get_model(model)
    state = net.state_dict()
    return {name: tuple(v.shape) for name, v in state.items() if not name.startswith("fc.")}
