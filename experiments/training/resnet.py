"""ResNet: a pretrained network as a frozen trunk and a trainable head, arranged to run fast.

What is rearranged computes the same function of the same weights, up to rounding.
"""

import copy
import hashlib

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from bench.experiment import Settings
from bench.experiments.training.pretrained_weights import read
from bench.experiments.training.reproducible import initialised_by


def network(settings: Settings, classes: int, word: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Return the frozen trunk and the trainable head of a torchvision ResNet.

    The head is the last `trainable_layers` children that have parameters, and whatever stands
    between and after them. Every tensor that the weights file does not give, `fc` always, follows
    from `word`.
    """
    model = str(settings["model"])
    with initialised_by(word):
        net = torchvision.models.get_model(model, num_classes=classes)
    if (pretrained := read(str(settings["weights"]), model)) is not None:
        net.load_state_dict({**net.state_dict(), **pretrained})
    *layers, classifier = net.children()
    layers += [nn.Flatten(), classifier]
    trainable = [i for i, layer in enumerate(layers) if any(True for _ in layer.parameters())]
    cut = trainable[-int(settings["trainable_layers"])]
    trunk, head = nn.Sequential(*layers[:cut]), nn.Sequential(*layers[cut:])
    # Batch-norm layers of the trunk keep ImageNet's statistics: eval mode, whatever the head does.
    return trunk.requires_grad_(False).eval(), head


def trunk_digest(trunk: nn.Module) -> str:
    """Return a digest of the frozen weights: equal trunks give equal features."""
    sha = hashlib.sha256(repr(trunk).encode())
    for tensor in trunk.state_dict().values():
        sha.update(tensor.cpu().contiguous().numpy().data)
    return sha.hexdigest()[:16]


def folded(trunk: nn.Sequential) -> nn.Sequential:
    """Return a frozen network whose batch-norm layers are part of the convolutions before them."""
    trunk = copy.deepcopy(trunk)
    for module in list(trunk.modules()):
        children = list(module.named_children())
        for (name, conv), (norm_name, norm) in zip(children, children[1:], strict=False):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, nn.Identity())
    return trunk


class SmallMap(nn.Module):
    """A convolution over a map no larger than its kernel, as the matrix product that it is.

    Most of what the kernel meets there is padding, which a convolution multiplies all the same. A
    weight that meets nothing else has gradient zero and never changes, so that it is left out.
    """

    def __init__(self, conv: nn.Conv2d, side: int) -> None:
        super().__init__()
        size, stride, padding = conv.kernel_size[0], conv.stride[0], conv.padding[0]
        self.side = (side + 2 * padding - size) // stride + 1
        # along[k, i, o]: on a line, weight k leads from pixel i of the input to pixel o
        along = torch.zeros(size, side, self.side)
        for o in range(self.side):
            for k in range(size):
                if 0 <= (i := o * stride + k - padding) < side:
                    along[k, i, o] = 1
        leads = torch.einsum("aip,bjq->abijpq", along, along)
        leads = leads.reshape(size**2, side**2, self.side**2).to(conv.weight)
        met = leads.flatten(1).any(dim=1)
        self.register_buffer("leads", leads[met])
        weight = conv.weight.detach().flatten(2)[:, :, met]
        self.weight = nn.Parameter(weight, requires_grad=conv.weight.requires_grad)
        self.bias = conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """Return what the convolution returns, for x of shape (N, channels, side, side)."""
        matrix = torch.einsum("oik,kpq->oqip", self.weight, self.leads)
        y = functional.linear(x.flatten(1), matrix.flatten(2).flatten(0, 1))
        y = y.unflatten(1, (-1, self.side, self.side))
        return y if self.bias is None else y + self.bias[:, None, None]


@torch.no_grad()
def with_products(net: nn.Module, example: Tensor) -> nn.Module:
    """Return the network with matrix products for its convolutions over small maps.

    Parameters
    ----------
    example : what the network is given, shape (1, channels, side, side)
    """
    net = copy.deepcopy(net)
    sides: dict[nn.Module, int] = {}

    def note(module: nn.Module, inputs: tuple[Tensor]) -> None:
        sides[module] = inputs[0].shape[-1]

    convolutions = {n: m for n, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    hooks = [conv.register_forward_pre_hook(note) for conv in convolutions.values()]
    net.eval()(example)
    for hook in hooks:
        hook.remove()
    for name, conv in convolutions.items():
        if conv.groups == 1 and conv.dilation[0] == 1 and sides[conv] <= conv.kernel_size[0]:
            net.set_submodule(name, SmallMap(conv, sides[conv]))
    return net
