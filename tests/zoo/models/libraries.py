"""Models of torchvision, timm and transformers, built without their weights; the transformers ones in small sizes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo.models import Case, Draw, floats, model, tokens

TORCHVISION = (
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "googlenet",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "swin_t",
    "swin_v2_t",
    "vgg11_bn",
    "vit_b_32",
)
TIMM = (
    "coatnet_nano_rw_224",
    "convmixer_768_32",
    "convnextv2_atto",
    "crossvit_tiny_240",
    "cspresnet50",
    "darknet53",
    "deit_tiny_patch16_224",
    "dla34",
    "edgenext_xx_small",
    "efficientformer_l1",
    "efficientvit_b0",
    "fastvit_t8",
    "gernet_s",
    "ghostnet_100",
    "gmlp_s16_224",
    "hardcorenas_a",
    "hrnet_w18_small",
    "inception_next_tiny",
    "lcnet_050",
    "levit_128s",
    "mixer_s32_224",
    "mobilenetv4_conv_small",
    "mobileone_s0",
    "mobilevit_xxs",
    "nf_resnet50",
    "pit_ti_224",
    "poolformer_s12",
    "pvt_v2_b0",
    "repvgg_a0",
    "res2net50_26w_4s",
    "resmlp_12_224",
    "resnetv2_50",
    "rexnet_100",
    "semnasnet_075",
    "tiny_vit_5m_224",
    "tinynet_e",
    "twins_pcpvt_small",
    "visformer_tiny",
    "vovnet39a",
    "xcit_nano_12_p16_224",
)
SIZE = {"coatnet_nano_rw_224": 224, "crossvit_tiny_240": 240, "levit_128s": 224, "pit_ti_224": 224}
"""Pixels where a model of timm takes one size only; others take 64 or, where they say so, their own."""


def _torchvision(name: str) -> Callable[[], Case]:
    def make() -> Case:
        models = importlib.import_module("torchvision.models")
        words = {"googlenet": {"init_weights": True, "aux_logits": False}}.get(name, {})
        size = 224 if name.startswith("vit") else 64
        return Case(models.get_model(name, weights=None, **words), floats(3, size, size))

    return make


def _timm(name: str) -> Callable[[], Case]:
    def make() -> Case:
        timm = importlib.import_module("timm")
        made = timm.create_model(name, pretrained=False)
        size = 224 if name.endswith("224") else 64
        size = SIZE.get(name, made.default_cfg["input_size"][1] if made.default_cfg.get("fixed_input_size") else size)
        return Case(made, floats(3, size, size))

    return make


for _name in TORCHVISION:
    model(f"torchvision {_name}", "vision", "torchvision")(_torchvision(_name))
for _name in TIMM:
    model(f"timm {_name}", "vision", "timm")(_timm(_name))


class Field(nn.Module):
    """A model whose result is one field of what it returns."""

    def __init__(self, inner: nn.Module, field: str) -> None:
        super().__init__()
        self.inner = inner
        self.field = field

    def forward(self, x: Tensor) -> Any:
        return self.inner(x)[self.field]


@model("torchvision deeplabv3_mobilenet_v3_large", "segmentation", "torchvision")
def _deeplab() -> Case:
    made = importlib.import_module("torchvision.models.segmentation").deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=4
    )
    return Case(Field(made, "out"), floats(3, 64, 64))


@model("torchvision lraspp_mobilenet_v3_large", "segmentation", "torchvision")
def _lraspp() -> Case:
    made = importlib.import_module("torchvision.models.segmentation").lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=4
    )
    return Case(Field(made, "out"), floats(3, 64, 64))


@model("torchvision ssdlite heads", "detection", "torchvision")
def _ssdlite() -> Case:
    detection = importlib.import_module("torchvision.models.detection")
    made = detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)

    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = made.backbone, made.head

        def forward(self, x: Tensor) -> Any:
            return self.head(list(self.backbone(x).values()))

    return Case(Heads(), floats(3, 160, 160))


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
DECODER = SMALL | {"vocab_size": 100, "max_position_embeddings": 64, "use_cache": False}
IMAGE = SMALL | {"image_size": 32, "patch_size": 8}
TRANSFORMERS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    # name: configuration, model, field of the result, settings
    "bert": ("BertConfig", "BertModel", "last_hidden_state", SMALL | {"vocab_size": 100}),
    "roberta": ("RobertaConfig", "RobertaModel", "last_hidden_state", SMALL | {"vocab_size": 100}),
    "electra": (
        "ElectraConfig",
        "ElectraModel",
        "last_hidden_state",
        SMALL | {"vocab_size": 100, "embedding_size": 16},
    ),
    "albert": ("AlbertConfig", "AlbertModel", "last_hidden_state", SMALL | {"vocab_size": 100, "embedding_size": 16}),
    "distilbert": (
        "DistilBertConfig",
        "DistilBertModel",
        "last_hidden_state",
        {"vocab_size": 100, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    ),
    "mobilebert": (
        "MobileBertConfig",
        "MobileBertModel",
        "last_hidden_state",
        SMALL | {"vocab_size": 100, "intra_bottleneck_size": 16, "embedding_size": 16, "true_hidden_size": 16},
    ),
    "gpt2": (
        "GPT2Config",
        "GPT2LMHeadModel",
        "logits",
        {"vocab_size": 100, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "use_cache": False},
    ),
    "opt": (
        "OPTConfig",
        "OPTForCausalLM",
        "logits",
        DECODER | {"ffn_dim": 64, "word_embed_proj_dim": 32},
    ),
    "llama": ("LlamaConfig", "LlamaForCausalLM", "logits", DECODER | {"num_key_value_heads": 2}),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", "logits", DECODER | {"num_key_value_heads": 2}),
    "gemma": ("GemmaConfig", "GemmaForCausalLM", "logits", DECODER | {"num_key_value_heads": 2, "head_dim": 8}),
    "t5 encoder": (
        "T5Config",
        "T5EncoderModel",
        "last_hidden_state",
        {"vocab_size": 100, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4},
    ),
}


def _transformers(configuration: str, class_name: str, field: str, settings: dict[str, Any], draw: Draw) -> Case:
    library = importlib.import_module("transformers")
    made = getattr(library, class_name)(getattr(library, configuration)(**settings))
    return Case(Field(made, field), draw)


def _language(name: str) -> Callable[[], Case]:
    return lambda: _transformers(*TRANSFORMERS[name], tokens(16, 100))


for _name in TRANSFORMERS:
    model(f"transformers {_name}", "language", "transformers")(_language(_name))


@model("transformers vit", "vision", "transformers")
def _vit() -> Case:
    return _transformers("ViTConfig", "ViTModel", "last_hidden_state", IMAGE, floats(3, 32, 32))


@model("transformers segformer", "segmentation", "transformers")
def _segformer() -> Case:
    settings = {"hidden_sizes": [8, 16, 32, 32], "depths": [1, 1, 1, 1], "decoder_hidden_size": 32}
    name = "SegformerForSemanticSegmentation"
    return _transformers("SegformerConfig", name, "logits", settings, floats(3, 64, 64))


@model("transformers audio spectrogram", "audio", "transformers")
def _spectrogram() -> Case:
    settings = SMALL | {"max_length": 64, "num_mel_bins": 32}
    return _transformers("ASTConfig", "ASTModel", "last_hidden_state", settings, floats(64, 32))


@model("transformers whisper encoder", "audio", "transformers")
def _whisper() -> Case:
    library = importlib.import_module("transformers")
    settings = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 64}
    more = {"decoder_layers": 1, "decoder_attention_heads": 4, "max_source_positions": 50, "num_mel_bins": 20}
    configuration = library.WhisperConfig(**settings, **more)
    return Case(Field(library.WhisperModel(configuration).encoder, "last_hidden_state"), floats(20, 100))


@model("transformers wav2vec2", "audio", "transformers")
def _wav2vec2() -> Case:
    settings = SMALL | {
        "conv_dim": [16] * 3,
        "conv_kernel": [10, 3, 3],
        "conv_stride": [5, 2, 2],
        "num_feat_extract_layers": 3,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
    }
    return _transformers("Wav2Vec2Config", "Wav2Vec2Model", "last_hidden_state", settings, floats(800))


@model("transformers patchtst", "time series", "transformers")
def _patchtst() -> Case:
    settings = {"num_input_channels": 3, "context_length": 32, "patch_length": 8, "patch_stride": 8, "d_model": 16}
    settings |= {"num_attention_heads": 2, "ffn_dim": 32, "num_hidden_layers": 2, "prediction_length": 8}
    name = "PatchTSTForPrediction"
    return _transformers("PatchTSTConfig", name, "prediction_outputs", settings, lambda n: {"x": torch.randn(n, 32, 3)})


@model("transformers patchtsmixer", "time series", "transformers")
def _patchtsmixer() -> Case:
    settings = {"num_input_channels": 3, "context_length": 32, "patch_length": 8, "patch_stride": 8, "d_model": 16}
    settings |= {"num_layers": 2, "prediction_length": 8}
    name = "PatchTSMixerForPrediction"
    return _transformers("PatchTSMixerConfig", name, "prediction_outputs", settings, floats(32, 3))
