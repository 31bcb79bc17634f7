import pytest
import torch
import torchvision
from torch import nn

from bench.experiments.cifar10 import SETTINGS
from bench.experiments.training.resnet import SmallMap, folded, network, trunk_digest, with_products

TINY = {**SETTINGS, "weights": "none"}


def test_the_default_head_is_layer4_and_a_fresh_classifier():
    trunk, head = network(TINY, 10, 0)
    assert len(trunk) == 7  # conv1, bn1, relu, maxpool, layer1, layer2, layer3
    assert [type(layer).__name__ for layer in head] == [
        "Sequential", "AdaptiveAvgPool2d", "Flatten", "Linear",
    ]  # fmt: skip
    assert head[-1].out_features == 10
    assert not any(p.requires_grad for p in trunk.parameters())
    assert all(p.requires_grad for p in head.parameters())


@pytest.mark.parametrize("layers", range(1, 8))
def test_wherever_it_is_cut_trunk_and_head_are_the_whole_network(layers):
    trunk, head = network({**TINY, "trainable_layers": layers}, 10, 0)
    whole = torchvision.models.resnet18(num_classes=10)
    assert sum(p.numel() for p in [*trunk.parameters(), *head.parameters()]) == sum(
        p.numel() for p in whole.parameters()
    )
    named = [n for n, child in whole.named_children() if any(True for _ in child.parameters())]
    trained = sum(p.numel() for n in named[-layers:] for p in getattr(whole, n).parameters())
    assert sum(p.numel() for p in head.parameters()) == trained


def test_a_weights_file_gives_every_tensor_but_the_classifier(tmp_path):
    state = torchvision.models.resnet18(num_classes=7).state_dict()
    torch.save(state, tmp_path / "net.pt")
    settings = {**TINY, "weights": str(tmp_path / "net.pt")}
    (trunk, head), (_, other) = (network(settings, 3, number) for number in (0, 1))
    assert torch.equal(trunk[0].weight, state["conv1.weight"])
    assert torch.equal(head[0][1].bn2.running_mean, state["layer4.1.bn2.running_mean"])
    assert torch.equal(head[0][0].conv1.weight, state["layer4.0.conv1.weight"])
    assert not torch.equal(head[-1].weight, other[-1].weight)
    assert head[-1].weight.shape == (3, 512)


def test_without_a_file_every_weight_follows_from_the_word():
    def weights(number):
        parts = network(TINY, 3, number)
        return torch.cat([p.flatten() for part in parts for p in part.parameters()])

    torch.manual_seed(1)
    first = weights(0)
    torch.manual_seed(2)
    assert torch.equal(first, weights(0))
    assert (first != weights(1)).float().mean() > 0.99  # all but biases and batch-norm scales


def test_equal_trunks_have_equal_digests():
    def digest(number, **settings):
        return trunk_digest(network({**TINY, **settings}, 3, number)[0])

    assert digest(0) == digest(0) != digest(1)
    assert digest(0) != digest(0, trainable_layers=3)


@pytest.mark.parametrize("model", ["resnet18", "resnet50", "resnext50_32x4d"])
def test_folding_leaves_no_batch_norm_and_the_same_function(model):
    net, _ = network({**TINY, "model": model}, 10, 3)
    before = trunk_digest(net)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    fast = folded(net)
    assert any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fast.modules())
    with torch.no_grad():
        assert (fast(x) - net(x)).abs().max() < 1e-4 * net(x).abs().max()
    assert trunk_digest(net) == before


@pytest.mark.parametrize(("size", "side"), [(1, 1), (3, 1), (3, 2), (3, 3)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_on_a_small_map_the_product_is_the_convolution_forward_and_backward(
    size, side, stride, bias
):
    torch.manual_seed(0)
    conv = nn.Conv2d(5, 7, size, stride, padding=size // 2, bias=bias).double()
    product = SmallMap(conv, side)
    x = torch.randn(4, 5, side, side, dtype=torch.float64, requires_grad=True)
    expected, found = conv(x), product(x)
    assert torch.allclose(found, expected)
    weights = torch.randn_like(expected)
    before = torch.autograd.grad((expected * weights).sum(), [conv.weight, x])
    after = torch.autograd.grad((found * weights).sum(), [product.weight, x])
    assert torch.allclose(after[1], before[1])
    gradient = before[0].flatten(2)
    met = gradient.abs().amax(dim=(0, 1)) > 0
    assert torch.allclose(after[0], gradient[:, :, met])  # a weight left out has gradient zero


def test_only_convolutions_over_maps_no_larger_than_their_kernel_become_products():
    _, head = network(TINY, 10, 0)
    for side, products in ((2, 4), (4, 3), (8, 0)):
        example = torch.zeros(1, 256, side, side)
        fast = with_products(head, example)
        assert sum(isinstance(m, SmallMap) for m in fast.modules()) == products
        x = torch.randn(6, 256, side, side, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            assert torch.allclose(fast.train()(x), head.train()(x), atol=1e-5)
    grouped = with_products(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=2)), example[:, :4])
    assert not any(isinstance(m, SmallMap) for m in grouped.modules())
