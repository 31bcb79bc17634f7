import pytest
import torch
import torchvision

from bench.experiments.training import pretrained_weights
from bench.experiments.training.pretrained_weights import MODELS, BadWeights, fetch, missing, read


@pytest.fixture(scope="session")
def state():
    """Return a ResNet-18's tensors, of 7 classes, in half precision as a file may hold them."""
    net = torchvision.models.resnet18(num_classes=7)
    return {k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}


@pytest.fixture
def file(state, tmp_path):
    path = tmp_path / "trained.pt"
    torch.save(state, path)
    return path


def refusal(path, model="resnet18"):
    with pytest.raises(BadWeights) as told:
        read(str(path), model)
    assert (told.value.code, told.value.exit_status) == ("weights", 4)
    return told.value


def test_half_precision_is_widened_and_the_classifier_left_out(file, state):
    found = read(str(file), "resnet18")
    assert found.keys() == {k for k in state if not k.startswith("fc.")}
    assert found["conv1.weight"].dtype == torch.float32
    assert torch.equal(found["conv1.weight"], state["conv1.weight"].float())


def test_a_run_records_which_weights_they_were(file):
    facts = fetch(str(file), "resnet18")
    assert facts["weights"] == "trained.pt"
    assert len(facts["weights_sha256"]) == 64
    assert facts["weights_note"] == "weights from trained.pt, not ImageNet"
    assert "no pretrained weights" in fetch("none", "resnet18")["weights_note"]


def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, touches):
    harmful, happened = touches
    torch.save({"conv1.weight": harmful}, tmp_path / "zip.pt")
    torch.save({"conv1.weight": harmful}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("zip.pt", "old.pt"):
        told = refusal(tmp_path / name)
        assert "cannot be read as weights; nothing in it was run" in told.what
        assert told.facts[0].startswith("torch.load(weights_only=True): ")
    assert not happened()


def test_the_malicious_pickle_would_have_run(tmp_path, touches):
    harmful, happened = touches
    torch.save(harmful, tmp_path / "zip.pt")
    torch.load(tmp_path / "zip.pt", weights_only=False)
    assert happened()


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 cut"])
def test_a_damaged_file_is_refused(content, tmp_path):
    (tmp_path / "bad.pt").write_bytes(content)
    assert "bad.pt cannot be read as weights" in refusal(tmp_path / "bad.pt").what


def test_a_file_that_is_not_there_is_refused(tmp_path):
    told = refusal(tmp_path / "none.pt")
    assert told.what.endswith("none.pt not found.")
    assert told.settings == {"weights": "FILE"}


def test_a_checkpoint_around_the_state_dict_is_refused_with_its_keys(state, tmp_path):
    torch.save({"epoch": 3, "model": state}, tmp_path / "checkpoint.pt")
    told = refusal(tmp_path / "checkpoint.pt")
    assert "is not a state dict" in told.what and told.facts == ("Found: epoch, model.",)


def test_the_weights_of_another_network_are_refused_with_the_right_one(file):
    told = refusal(file, "resnet34")
    assert told.what.endswith("trained.pt does not fit resnet34.")
    assert "Missing: " in told.facts[0]
    assert told.settings == {"model": "resnet18", "weights": str(file)}
    assert any(fact.startswith("Other shape: ") for fact in refusal(file, "resnet50").facts)


def test_weights_with_nan_are_refused(state, tmp_path):
    torch.save({**state, "bn1.bias": torch.full((64,), torch.nan)}, tmp_path / "nan.pt")
    assert "holds NaN or infinity, first in bn1.bias" in refusal(tmp_path / "nan.pt").what


def test_offline_the_imagenet_weights_are_refused_with_the_file_that_is_needed():
    with pytest.raises(BadWeights) as told:
        fetch("imagenet", "resnet18")
    assert "downloads are switched off (--offline)" in told.value.what
    assert told.value.facts[0].startswith("Needed: resnet18-f37072fd.pth from https://download.py")
    assert told.value.settings == {"weights": "FILE"}


def test_imagenet_weights_at_hand_are_used_when_their_checksum_holds(state, tmp_path, monkeypatch):
    checkpoints = tmp_path / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.save(state, tmp_path / "net.pt")
    digest = pretrained_weights.sha256_of(tmp_path / "net.pt")
    monkeypatch.setattr(
        pretrained_weights, "_imagenet_url", lambda m: f"http://x/resnet18-{digest[:8]}.pth"
    )
    assert "are not in" in missing("imagenet", "resnet18")
    (tmp_path / "net.pt").rename(checkpoints / f"resnet18-{digest[:8]}.pth")
    assert missing("imagenet", "resnet18") is None
    assert fetch("imagenet", "resnet18") == {
        "weights": f"resnet18-{digest[:8]}.pth", "weights_sha256": digest,
    }  # fmt: skip


def test_every_torchvision_resnet_is_known():
    assert {"resnet18", "resnet34", "resnet50", "resnet101", "resnet152"} <= set(MODELS)
    assert all(pretrained_weights._imagenet_url(model).endswith(".pth") for model in MODELS)


@pytest.mark.real_data
def test_the_stand_in_weights_are_a_resnet18(real_weights):
    assert read(str(real_weights), "resnet18")["conv1.weight"].shape == (64, 3, 7, 7)
