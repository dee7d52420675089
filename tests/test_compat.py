"""Each undocumented part of another library that the package uses, by itself."""

import ast
import importlib
import inspect
import os
import pickle
import platform
import re
import sys
from pathlib import Path

import pytest
import torch
import transformers
from gguf_files import needs_gguf, write_gguf
from sklearn.callback import ProgressBar
from sklearn.pipeline import Pipeline
from tiny_models import make_config, make_sentences

import sktransformers
from sktransformers import TransformerClassifier, _compat
from sktransformers.exceptions import UnsupportedVersionError

PACKAGE = Path(sktransformers.__file__).parent


def test_callbacks_of_an_estimator():
    bar = ProgressBar()
    classifier = TransformerClassifier()
    assert _compat.callbacks_of(classifier) == []
    assert _compat.callbacks_of(classifier.set_callbacks(bar)) == [bar]


def test_a_fit_inside_of_a_pipeline_is_nested(tiny_classifier):
    seen = []

    class Spy(TransformerClassifier):
        def _check_y(self, y):
            seen.append(_compat.is_nested_fit(self))
            return super()._check_y(y)

    spy = Spy(tiny_classifier.model, max_epochs=0, device="cpu")
    X, y = make_sentences(8)
    Pipeline([("spy", spy)]).set_callbacks(ProgressBar()).fit(X, y)
    spy.fit(X, y)
    assert seen == [True, False]


def test_parameters_are_validated_without_a_fit():
    _compat.validate_parameters(TransformerClassifier())
    with pytest.raises(ValueError, match="batch_size"):
        _compat.validate_parameters(TransformerClassifier(batch_size=0))


def test_the_table_of_fitted_attributes(fitted_classifier):
    table = _compat.table_of_fitted_attributes(fitted_classifier)
    assert table["n_epochs_"]["value"] == fitted_classifier.n_epochs_
    assert table["model_"]["value"] is fitted_classifier.model_
    assert type(fitted_classifier)._get_fitted_attr_html(fitted_classifier) is not table


def test_a_write_in_place_changes_the_version():
    parameter = torch.nn.Parameter(torch.zeros(2))
    before = _compat.parameter_version(parameter)
    assert _compat.parameter_version(parameter) == before
    with torch.no_grad():
        parameter.add_(1)
    assert _compat.parameter_version(parameter) != before


IS_X86 = platform.machine().lower() in ("x86_64", "amd64")


@pytest.mark.skipif(not IS_X86, reason="the names below are those of x86 processors")
def test_bfloat16_is_native_where_onednn_says_so(capfd):
    # `make test-processors` runs this under limits of the instruction set, too.
    a = torch.randn(64, 64)
    with (
        torch.inference_mode(),
        torch.autocast("cpu", dtype=torch.bfloat16),
        torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON),
    ):
        torch.nn.functional.linear(a, a)
    lines = capfd.readouterr().out
    used = re.findall(r",exec,cpu,matmul,([\w:]+),.*src:bf16", lines)
    is_native = any(re.match(r"brg\w*:\w*(bf16|amx|avx10)", name) for name in used)
    assert _compat.cpu_multiplies_bfloat16() == is_native, lines


@pytest.mark.parametrize("variable", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_an_emulation_of_bfloat16_is_not_native(monkeypatch, variable):
    monkeypatch.setenv(variable, "avx512_core")
    assert not _compat.cpu_multiplies_bfloat16()


def test_a_submodule_is_replaced_in_a_copy_alone():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    x = torch.randn(3, 2)
    expected = module(x)
    twin = _compat.with_submodule(module, "1", torch.nn.Identity())
    assert type(twin) is torch.nn.Sequential
    assert torch.equal(twin(x), module[0](x))
    assert torch.equal(module(x), expected)


def test_attributes_that_a_forward_pass_may_set(tiny_model):
    model = transformers.AutoModel.from_pretrained(tiny_model)
    found = _compat.attribute_dicts(torch.nn.Sequential(model))
    assert any(part is vars(model.config) for part in found)
    for module in (model, model.encoder.layer[0]):
        for part in (vars(module), module._buffers, module._modules):
            assert any(part is other for other in found)
    assert not any(part is vars(model.pooler.dense) for part in found)


def test_the_class_of_a_model_is_known_before_it_is_read():
    auto = transformers.AutoModelForSequenceClassification
    bert, t5 = transformers.BertConfig(), transformers.T5Config()
    found = _compat.model_class(auto, bert)
    assert found is transformers.BertForSequenceClassification
    funnel = transformers.FunnelConfig()
    found = _compat.model_class(transformers.AutoModel, funnel)
    assert found is transformers.FunnelModel  # and not two
    assert _compat.model_class(transformers.AutoModelForCausalLM, t5) is None


def test_which_models_have_which_head():
    causal, masked = _compat.model_types("CAUSAL_LM"), _compat.model_types("MASKED_LM")
    assert {"gpt2", "llama", "mamba", "bert"} <= causal
    assert {"bert", "roberta"} <= masked
    assert not {"gpt2", "llama", "mamba"} & masked


def test_attention_implementations():
    assert _compat.supports_sdpa(transformers.BertModel)
    assert not _compat.supports_sdpa(transformers.LongformerModel)
    assert not _compat.supports_sdpa(None)
    config = make_config("bert", 30)
    for name in ("sdpa", "eager"):
        model = transformers.AutoModel.from_config(config, attn_implementation=name)
        assert _compat.attention_implementation(model.config) == name


def test_the_mask_of_plain_attention_is_added_to_scores():
    parameters = inspect.signature(_compat.eager_attention_mask()).parameters
    assert "attention_mask" in parameters
    # That it is of use is proved where attention is compared with transformers' own.


def test_the_arguments_of_a_forward_pass():
    arguments = _compat.forward_arguments(transformers.GPT2LMHeadModel)
    assert {"input_ids", "attention_mask", "position_ids"} <= arguments


def test_which_models_keep_a_recurrent_state():
    assert _compat.has_recurrent_state(transformers.MambaForCausalLM)
    assert not _compat.has_recurrent_state(transformers.GPT2LMHeadModel)


def test_activations_are_recomputed_and_kept_again():
    model = transformers.BertModel(make_config("bert", 30)).train()
    inputs = {"input_ids": torch.arange(5)[None]}
    calls = []
    inner = model.encoder.layer[0].attention
    handle = inner.register_forward_pre_hook(lambda *_: calls.append(1))
    for active in (True, False):
        calls.clear()
        _compat.set_activation_checkpointing(model, active=active)
        model(**inputs).last_hidden_state.sum().backward()
        assert len(calls) == 1 + active
        assert not model.embeddings.word_embeddings._forward_hooks
    handle.remove()
    pickle.dumps(model)


def test_the_settings_of_a_tokenizer_are_saved_with_it(tiny_model, tmp_path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    _compat.init_kwargs_of(tokenizer)["mark"] = "here"
    tokenizer.save_pretrained(tmp_path)
    assert '"mark"' in (tmp_path / "tokenizer_config.json").read_text("utf-8")


@needs_gguf
def test_a_gguf_file_is_read_once(tmp_path, monkeypatch):
    import gguf

    path = tmp_path / "tiny.gguf"
    write_gguf(path)
    reader, read = gguf.GGUFReader, []

    def count(file):
        read.append(file)
        return reader(file)

    monkeypatch.setattr(gguf, "GGUFReader", count)
    with _compat.read_gguf_once(path, last=True):
        for auto in (transformers.AutoConfig, transformers.AutoTokenizer):
            auto.from_pretrained(tmp_path, gguf_file=path.name)
    assert len(read) == 1
    assert gguf.GGUFReader is count
    assert _compat._read_gguf.cache_info().currsize == 0


def test_telemetry_cannot_be_imported(monkeypatch):
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    with _compat.without_telemetry():
        assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
        with pytest.raises(ImportError):
            importlib.import_module("openvino_telemetry")
    assert "ORT_DISABLE_TELEMETRY" not in os.environ
    assert "openvino_telemetry" not in sys.modules


def test_what_is_gone_is_an_error_with_name_and_version():
    class AutoModelOfTomorrow:
        pass

    version = re.escape(transformers.__version__)
    expected = rf"transformers {version} has no AutoModelOfTomorrow\._model_mapping"
    with pytest.raises(UnsupportedVersionError, match=expected):
        _compat.model_class(AutoModelOfTomorrow, transformers.BertConfig())


def private_names(path):
    """Return private names that a module takes from others, and those it defines."""
    used, defined = set(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.ImportFrom(module=module, names=names, level=0):
                parts = [*(module or "").split("."), *(alias.name for alias in names)]
                used |= {part for part in parts if is_private(part)}
            case ast.Attribute(value=owner, attr=name, ctx=context):
                is_own = isinstance(owner, ast.Name) and owner.id in ("self", "cls")
                is_own |= isinstance(context, ast.Store)
                (defined if is_own else used).add(name)
            case ast.Call(func=ast.Name(id="getattr" | "hasattr"), args=args):
                if isinstance(args[1], ast.Constant):
                    used.add(args[1].value)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                defined.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                defined.add(name)
            case ast.Dict(keys=keys):  # of attributes that a fit sets
                defined |= {k.value for k in keys if isinstance(k, ast.Constant)}
    return {name for name in used if is_private(name)}, defined


# Private by name, public by scikit-learn's guides for developers.
DOCUMENTED = {"_init_callback_context", "_parameter_constraints"}


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def test_no_other_module_uses_private_names_of_other_libraries():
    names = {path: private_names(path) for path in PACKAGE.rglob("*.py")}
    ours = DOCUMENTED.union(*(defined for _, defined in names.values()))
    strangers = {
        path.name: sorted(used - ours)
        for path, (used, _) in names.items()
        if path.name != "_compat.py" and used - ours
    }
    assert strangers == {}


def test_each_use_has_a_test():
    functions = {
        name
        for name, value in vars(_compat).items()
        if inspect.isfunction(value) and value.__module__ == _compat.__name__
    }
    source = Path(__file__).read_text(encoding="utf-8")
    untested = {
        n for n in functions if not is_private(n) and f"_compat.{n}" not in source
    }
    assert untested == set()
