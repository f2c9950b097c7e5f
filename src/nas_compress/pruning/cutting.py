"""Cut channels out of a network by dependency groups (Fang et al. 2023, arXiv 2301.12900), weights and all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import nn

from nas_compress.errors import RequestError, describe
from nas_compress.pruning.groups import ChannelGroup, trace_groups


def cut_network(
    network: nn.Module,
    sample_shape: tuple[int, int, int],
    *,
    groups: Sequence[ChannelGroup],
    channels: Callable[[ChannelGroup], int],
) -> nn.Module:
    """A copy of the network on the CPU in which each group keeps so many of its most important channels.

    sample_shape: (C, H, W) of a uint8 sample. groups: as `rank_channels` gave them for this network. What is kept
    stands in its old order. `network` stays as it is. RequestError names a layer of which more was asked than it has.
    """
    copy, traced = trace_groups(network, sample_shape)
    ranked = {group.layers: group for group in groups}
    for found in traced:
        group = ranked[found.layers]
        kept = channels(group)
        if not 1 <= kept <= found.channels:
            raise RequestError(
                f"a cut layer must keep 1 to {found.channels} channels (the teacher's), "
                f"but {found.layers[0]} was to keep {kept}"
            )
        if kept < found.channels:
            least = np.argsort(group.importance, kind="stable")[: found.channels - kept]
            try:
                found.group.prune(idxs=sorted(least.tolist()))
            except Exception as error:  # torch-pruning meets any module here
                raise RequestError(
                    f"the layers of a pruned network must be ones that torch-pruning can cut, "
                    f"but at {found.layers[0]} it raised {describe(error)}"
                ) from error
    return copy
