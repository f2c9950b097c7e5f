"""A user's module without wrappers, in float32, with its lazy layers initialised."""

from __future__ import annotations

from itertools import chain

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.optim.swa_utils import AveragedModel

from nas_compress.tasks.batch import Batch

COMPILED = "_orig_mod"
"""Name of the module inside the result of torch.compile."""


def plain_module(module: nn.Module, batch: Batch) -> nn.Module:
    """Return the module inside DataParallel, AveragedModel and torch.compile, in float32.

    Submodules are unwrapped too. Lazy layers get their shapes from a pass over the samples of `batch`.
    """
    module = _unwrapped(module)
    for parent in list(module.modules()):
        parent._compiled_call_impl = None  # of Module.compile(), which wraps nothing
        for name, child in list(parent.named_children()):
            inner = _unwrapped(child)
            if inner is not child:
                setattr(parent, name, inner)
    module.float()  # students, pruning and the exported file compute in float32
    if any(map(is_lazy, chain(module.parameters(), module.buffers()))):
        training = module.training
        module.eval()
        with torch.no_grad():
            module(*batch.values())
        module.train(training)
    return module


def _unwrapped(module: nn.Module) -> nn.Module:
    while True:
        children = dict(module.named_children())
        if isinstance(module, (nn.DataParallel, DistributedDataParallel, AveragedModel)):
            module = children["module"]
        elif list(children) == [COMPILED]:
            module = children[COMPILED]
        else:
            return module
