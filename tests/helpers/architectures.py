"""Build a tiny random model of every architecture that transformers maps to a task."""

import re
from typing import Any

import torch
import transformers
from tiny_models import VOCABULARY
from transformers import CONFIG_MAPPING
from transformers.models.auto import modeling_auto

from sktransformers._models.files import quiet

WIDTH = 32
POSITIONS = 128
BOS, PAD, EOS, UNKNOWN = range(4)  # ids of the special tokens
MAX_PARAMETERS = 4_000_000  # settings that were not shrunk give hundreds of millions

AUTO_CLASSES = {
    "SequenceClassification": transformers.AutoModelForSequenceClassification,
    "TokenClassification": transformers.AutoModelForTokenClassification,
    "CausalLM": transformers.AutoModelForCausalLM,
    "Seq2SeqLM": transformers.AutoModelForSeq2SeqLM,
}
_MAPPINGS = {
    "SequenceClassification": "SEQUENCE_CLASSIFICATION",
    "TokenClassification": "TOKEN_CLASSIFICATION",
    "CausalLM": "CAUSAL_LM",
    "Seq2SeqLM": "SEQ_TO_SEQ_CAUSAL_LM",
}

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
N_TOKENS = 96

# Values of a tiny model by the name of the setting; the first match counts.
_TINY: list[tuple[str, int]] = [
    (r"type_vocab_size", 2),
    (r"\w*vocab_size(_base|_per_layer_input)?|\w*_byte_group_vocab", N_TOKENS),
    (r"max_position_embeddings|n_positions|n_ctx|context_length", POSITIONS),
    (r"max_\w+_position(s|_embeddings)|max_seq_len", POSITIONS),
    (r"(\w+_)?(head_dim|d_kv|d_head|dim_head|headdim|head_size)", 8),
    (r"(\w+_)?(key_value|kv)_(n_)?heads|kv_n_heads|num_query_groups", 2),
    (r"(\w+_)?(heads?|n_heads?)", 4),
    (r"num_mem_blocks", 1),
    (r"rotary_dim|kv_channels", 8),
    (r"mtp_num_hidden_layers|num_nextn_predict_layers|num_kv_shared_layers", 0),
    (r"(\w+_)?(layers|n_layer|depth)(_per_stack)?|num_self_attends_per_block", 2),
    (r"(\w+_)?rank|hc_lowrank|mamba_dt_rank", 8),
    (r"query_pre_attn_scalar", 8),
    (r"(\w+_)?(intermediate|ffn|ff|feed_forward|feedforward)_(size|dim)", 2 * WIDTH),
    (r"dff|d_ff|d_inner|n_inner|ffn_hidden_size|mlp_dim|dim_ff", 2 * WIDTH),
    (r"intermediate_size_mlp|(\w+_)?ffn_hidden_size", 2 * WIDTH),
    (r"hidden_size_per_layer_input", 8),
    (r"(\w+_)?(hidden_size|hidden_dim|d_model|n_embd|emb_dim|embed_dim)", WIDTH),
    (r"dim|(\w+_)?(embedding_size|embedding_dim|emb_size)|word_embed_proj_dim", WIDTH),
    (r"hidden_size_global|lru_width|d_latents|backbone_hidden_size", WIDTH),
    (r"(\w*num_(local_|routed_)?|n_routed_)experts", 4),
    (r"\w*(experts_per_tok(en)?|top_?k(_experts)?)|moe_k|n_group|topk_group", 2),
    (r"attention_window|sliding_window(_size)?|local_attention|window_size", 8),
    (r"(\w+_)?chunk_size", 8),
    (r"chunk_size_feed_forward", 0),
    (r"\w+_token_(id|index)", N_TOKENS - 1),  # of images and the like
]
_KEPT = re.compile(r"chunk_size_feed_forward|(bos|eos|pad|decoder_start)_token_id")
_COMPUTED = {"head_dim", "num_key_value_heads", "vocab_size"}  # where None
_COMPUTED |= {"num_experts_per_tok", "n_routed_experts"}
_MAMBA_HEADS = {"mamba_n_heads": 8, "mamba_d_head": 8}
_TWICE_HYBRID = {
    "layers_block_type": ["linear_attention", "hybrid"] * 2,
    "num_hidden_layers": 4,
    "attention_hidden_size": 2 * WIDTH,
    "attention_head_dim": 16,
}
_ROTATION = {"rope_type": "default", "rope_theta": 10_000.0}
# What else a tiny model of a type needs.
_SETTINGS: dict[str, dict[str, Any]] = {
    "bamba": {**_MAMBA_HEADS, "attn_layer_indices": [1]},
    "big_bird": {"block_size": 2, "num_random_blocks": 1},
    "cohere_compass_text": {"rope_parameters": {"full_attention": _ROTATION}},
    # Counts the attention and the feed-forward part of a layer as two.
    "dory": {
        "n_input_layers": 2,
        "n_recurrent_layers": 2,
        "n_output_layers": 2,
        "num_hidden_layers": 6,
        "layer_types": ["sliding_attention", "mlp"] * 3,
    },
    "esmc": {"num_key_value_heads": 4},
    "falcon_h1": _MAMBA_HEADS,
    "gemma4_text": {"global_head_dim": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": _MAMBA_HEADS,
    "hrm_text": {"num_hidden_layers": 2, "num_layers_per_stack": 1},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "kimi_linear": {"num_expert_group": 2},
    "layoutlmv3": {"coordinate_size": 4, "shape_size": 8},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "lilt": {"hidden_size": 48},
    "mamba2": {"num_heads": 8},
    "mobilebert": {"intra_bottleneck_size": WIDTH},
    "opt": {"word_embed_proj_dim": WIDTH // 2},
    "recurrent_gemma": {"num_hidden_layers": 3},
    "reformer": {
        "axial_pos_embds_dim": [8, 24],
        "axial_pos_shape": [16, 8],
        "attn_layers": ["local", "lsh"],
        "is_decoder": True,
    },
    "xmod": {"default_language": "en_XX"},
    "zamba": _TWICE_HYBRID,
    "zamba2": {**_TWICE_HYBRID, "n_mamba_heads": 8},
    "zaya": {"num_experts_per_tok": 1},
}
_IDS = {
    "bos_token_id": BOS,
    "pad_token_id": PAD,
    "eos_token_id": EOS,
    "decoder_start_token_id": BOS,
}


class CannotBuildError(Exception):
    """No tiny model of an architecture can be built from its configuration."""


def model_types(task: str) -> list[str]:
    """Return all values of ``config.model_type`` that have a model for a task."""
    return list(getattr(modeling_auto, f"MODEL_FOR_{_MAPPINGS[task]}_MAPPING_NAMES"))


def make_config(model_type: str) -> Any:
    """Return the configuration of a tiny model."""
    with quiet():
        return _shrink(CONFIG_MAPPING[model_type], _SETTINGS.get(model_type, {}))


def _shrink(config_class: Any, settings: dict[str, Any]) -> Any:
    default = config_class()
    tiny: dict[str, Any] = {}
    for name, value in default.to_dict().items():
        inner = vars(default).get(name)
        if isinstance(inner, transformers.PreTrainedConfig):
            tiny[name] = _shrink(type(inner), {}).to_dict()
        elif (_is_count(value) or (value is None and name in _COMPUTED)) and (
            number := _tiny_value(name)
        ) is not None:
            tiny[name] = number
    names = default.to_dict()
    for name in ("layer_types", "layers_block_type"):
        if kinds := names.get(name):
            kinds = list(dict.fromkeys(kinds))
            kinds = kinds if len(kinds) > 1 else kinds * 2
            tiny |= {name: kinds, "num_hidden_layers": len(kinds)}
    if "kv_lora_rank" in names:  # no groups of heads
        tiny["num_key_value_heads"] = 4
        tiny.pop("head_dim", None)
    tiny |= {name: value for name, value in _IDS.items() if name in names}
    tiny |= settings
    return config_class(**tiny)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _tiny_value(name: str) -> int | None:
    if _KEPT.fullmatch(name):
        return None
    return next((n for pattern, n in _TINY if re.fullmatch(pattern, name)), None)


def make_model(model_type: str, task: str, *, scale: float = 0.3, **settings: Any):
    """Return a tiny model in evaluation mode, with large random weights.

    Parameters
    ----------
    model_type : str
        Value of ``config.model_type``.
    task : {"SequenceClassification", "TokenClassification", "CausalLM", "Seq2SeqLM"}
        Task of the model.
    scale : float, default=0.3
        Standard deviation of the matrices, which makes the outputs vary.
    **settings
        Settings of the configuration, such as ``num_labels``.

    Raises
    ------
    CannotBuildError
        If there is no such model, with the reason.
    """
    auto = AUTO_CLASSES[task]
    try:
        config = make_config(model_type)
        if config.is_encoder_decoder:
            settings.setdefault("decoder_start_token_id", BOS)
        for name, value in settings.items():
            setattr(config, name, value)
        with quiet(), torch.device("meta"):
            n_parameters = sum(p.numel() for p in auto.from_config(config).parameters())
        if n_parameters > MAX_PARAMETERS:
            raise CannotBuildError(f"{n_parameters:,} parameters")
        with torch.random.fork_rng(), quiet():
            torch.manual_seed(0)
            model = auto.from_config(config).eval()
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    torch.nn.init.normal_(parameter, std=scale)
    except CannotBuildError:
        raise
    except Exception as error:
        raise CannotBuildError(f"{type(error).__name__}: {error}") from error
    return model


def is_decoder(config: Any) -> bool:
    """Return whether a model is decoder-only."""
    is_causal = config.model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return is_causal and (
        not config.is_encoder_decoder
        and config.model_type not in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    )


def make_tokenizer(config: Any) -> Any:
    """Return a fast word tokenizer with the special tokens that the model expects."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = [*SPECIAL, *VOCABULARY, *"abcdefghijklmnopqrstuvwxyz"]
    ids = {word: i for i, word in enumerate(dict.fromkeys(words))}
    assert max(ids.values()) < N_TOKENS
    first, last = "<s> ", " </s>"
    if config.model_type == "xlnet":
        first, last = "", " </s> <mask>"
    elif is_decoder(config):
        last = ""
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first}$A{last}",
        pair=f"{first}$A </s> $B{last}",
        special_tokens=[(token, ids[token]) for token in SPECIAL],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=POSITIONS // 2,
        model_input_names=["input_ids", "attention_mask"],
    )


def save_model(directory: Any, model_type: str, task: str, **settings: Any) -> str:
    """Save a tiny model of an architecture with its tokenizer; return the directory.

    Raises CannotBuildError as :func:`make_model` does.
    """
    model = make_model(model_type, task, **settings)
    with quiet():
        model.save_pretrained(directory)
        make_tokenizer(model.config).save_pretrained(directory)
    return str(directory)
