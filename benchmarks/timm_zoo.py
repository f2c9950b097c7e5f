"""Small networks of timm, with random weights, for inputs of 64 x 64 pixels."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from nas_compress.teacher.libraries import load_timm

SIDE, CLASSES = 64, 10
SHAPE = (3, SIDE, SIDE)

NETWORKS: dict[str, dict[str, Any]] = {
    # residual
    "resnet10t": {},
    "resnet18": {"channels": (16, 32, 64, 128), "stem_width": 16},
    "resnet26": {"layers": (1, 1, 1, 1), "channels": (16, 32, 48, 64)},
    "resnetv2_18": {"layers": (1, 1, 1, 1), "channels": (32, 48, 64, 96)},
    "seresnet18": {"layers": (1, 1, 1, 1)},
    "skresnet18": {"layers": (1, 1, 1, 1)},
    "ecaresnet26t": {"layers": (1, 1, 1, 1)},
    "resnext26ts": {},
    "seresnext26d_32x4d": {"layers": (1, 1, 1, 1)},
    "res2net50_26w_4s": {"layers": (1, 1, 1, 1)},
    "gcresnext26ts": {},
    "nf_resnet26": {},
    "test_resnet": {},
    # inverted residuals
    "mobilenetv1_100": {},
    "mobilenetv2_035": {},
    "mobilenetv3_small_050": {},
    "mobilenetv4_conv_small_035": {},
    "lcnet_035": {},
    "mnasnet_small": {},
    "tinynet_e": {},
    "fbnetc_100": {},
    "spnasnet_100": {},
    "semnasnet_075": {},
    "hardcorenas_a": {},
    "efficientnet_lite0": {},
    "efficientnet_b0": {},
    "mixnet_s": {},
    "rexnet_100": {},
    "ghostnet_050": {},
    "repghostnet_050": {},
    "mobileone_s0": {},
    "repvit_m0_9": {},
    "test_efficientnet": {},
    "test_efficientnet_gn": {},
    "test_efficientnet_ln": {},
    # other convolutions
    "regnetx_002": {},
    "regnety_002": {},
    "dla46_c": {},
    "dla46x_c": {},
    "densenet121": {"block_config": (2, 2, 2, 2), "growth_rate": 16},
    "darknet17": {},
    "ese_vovnet19b_dw": {},
    "repvgg_a0": {},
    "fasternet_t0": {},
    "starnet_s050": {},
    "selecsls42": {},
    "hgnetv2_b0": {},
    "inception_next_atto": {},
    "test_byobnet": {},
    "test_nfnet": {},
    # convolutions with layer normalisation
    "convnext_atto": {"depths": (1, 1, 2, 1)},
    "convnextv2_atto": {"depths": (1, 1, 2, 1)},
    "test_convnext": {},
    "test_convnext2": {},
    "edgenext_xx_small": {},
    "poolformer_s12": {},
    # tokens
    "mixer_s32_224": {"img_size": SIDE},
    "resmlp_12_224": {"img_size": SIDE},
    "gmlp_ti16_224": {"img_size": SIDE},
    "vit_tiny_patch16_224": {"img_size": SIDE, "depth": 3},
    "deit_tiny_distilled_patch16_224": {"img_size": SIDE, "depth": 3},
    "cait_xxs24_224": {"img_size": SIDE, "depth": 3},
    "xcit_nano_12_p16_224": {"img_size": SIDE, "depth": 3},
    "eva02_tiny_patch14_224": {"img_size": 56, "depth": 3},
    "swin_tiny_patch4_window7_224": {"img_size": SIDE, "window_size": 4, "embed_dim": 48, "depths": (2, 2, 2, 2)},
    "pvt_v2_b0": {},
    "levit_128s": {"img_size": SIDE},
    "efficientformerv2_s0": {"img_size": SIDE},
    "mobilevit_xxs": {},
    "mobilevitv2_050": {},
    "test_vit": {"img_size": SIDE},
    "test_mambaout": {},
}
"""Settings by name, so that each network has a few million parameters at most."""


class Raw(nn.Module):
    """A network of timm on raw pixels 0 to 255."""

    def __init__(self, name: str) -> None:
        super().__init__()
        settings = NETWORKS[name]
        self.side = settings.get("img_size", SIDE)
        self.model = load_timm().create_model(name, num_classes=CLASSES, **settings)

    def forward(self, samples: Tensor) -> Tensor:
        """Answer normalised samples."""
        values = samples[..., : self.side, : self.side].float() / 64 - 2
        return self.model(values)
