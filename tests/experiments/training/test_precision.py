import pytest
import torch

from bench.experiments.training import precision
from bench.experiments.training.precision import autocast, computing_in, require
from bench.experiments.training.setting_rules import BadSetting

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


def test_a_cpu_has_no_tf32_and_says_what_it_has():
    with pytest.raises(BadSetting, match="precision is 'tf32', which cpu cannot") as told:
        require("tf32", CPU)
    assert told.value.facts == ("It can: fp32, bf16.",)
    assert told.value.settings == {"precision": "bf16"}
    with pytest.raises(BadSetting), computing_in("tf32", CPU):
        pass


@pytest.mark.parametrize(
    ("capability", "there"), [((7, 5), ["fp32"]), ((9, 0), ["fp32", "tf32", "bf16"])]
)
def test_what_a_gpu_can_do_depends_on_its_generation(capability, there, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    for name in precision.PRECISIONS:
        if name in there:
            require(name, CUDA)
        else:
            with pytest.raises(BadSetting, match=f"'{name}', which cuda:0 cannot compute in"):
                require(name, CUDA)


def test_fp32_is_ieee_everywhere_and_what_was_set_comes_back(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    before = torch.backends.fp32_precision
    for name, wanted in (("fp32", "ieee"), ("tf32", "tf32"), ("bf16", "ieee")):
        with pytest.raises(RuntimeError, match="stop"), computing_in(name, CUDA):
            assert torch.backends.cuda.matmul.fp32_precision == wanted
            assert torch.backends.cudnn.conv.fp32_precision == wanted
            raise RuntimeError("stop")
        assert torch.backends.fp32_precision == before


def test_only_bf16_runs_a_network_in_bfloat16():
    layer, x = torch.nn.Linear(3, 4), torch.randn(2, 3)
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with autocast(name, CPU):
            assert layer(x).dtype == dtype
