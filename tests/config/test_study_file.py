from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pydantic
import pytest

from nas_compress.config.schema import DataSection, StudySpec
from nas_compress.config.shipped import shipped_folder, shipped_names, shipped_path
from nas_compress.config.study_file import parse_spec, read_study
from nas_compress.errors import RequestError
from nas_compress.search.storage.optuna_storage import study_identity
from nas_compress.values.candidate import Candidate
from nas_compress.values.metrics.table import Budget, Objective

GOOD = 'name = "mine"\nspace = "cnn"\n[data]\nname = "digits"\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(study: str | Path) -> str:
    with pytest.raises(RequestError) as caught:
        read_study(study)
    assert "\n" not in str(caught.value)
    return str(caught.value)


MISTAKES = {
    # keys of several types
    GOOD + '[training]\nclass_weight = "balance"': (
        "training.class_weight: input should be 'balanced' or a valid array or an object, but got "
        "training.class_weight='balance'"
    ),
    GOOD.replace("[data]", "[data]\nvocabulary = 1.5"): "data.vocabulary: input should be a valid integer",
    GOOD + '[training]\nclass_weight = [1, "a"]': "training.class_weight.1: input should be a valid number, but got",
    # unknown keys, at each level
    'nme = "x"\n' + GOOD: "every key must be known, but got nme; did you mean 'name'?",
    GOOD + 'nam = "x"': "every key must be known, but got data.nam; did you mean 'name'?",
    GOOD + "[training]\nepoch = 3": "but got training.epoch; did you mean 'epochs'?",
    GOOD + '[teacher]\nfamly = "x"': "but got teacher.famly; did you mean 'family'?",
    GOOD + "[search]\naccuracy_floor = 95": "0 < search.accuracy_floor < 1 (accuracy) must hold, but got 95",
    GOOD + '[search]\naccuracy_floor = 0.9\nsampler = "tpe"': "search.accuracy_floor needs the sampler ehvi",
    GOOD.replace("[data]", 'objectives = ["size_bytes"]\n[data]') + "[search]\naccuracy_floor = 0.9": (
        "an objective such as accuracy, without a reward, but got sampler='ehvi', objectives=['size_bytes']"
    ),
    GOOD + '[search]\nsampler = "tpe"\nwarm_start = ["a"]': "search.warm_start needs the sampler ehvi, but got",
    GOOD + '[search]\nsampler = "tpe"\nprior = { a = 1 }': "search.prior needs the sampler ehvi, but got sampler='tpe'",
    GOOD + '[search]\nwarm_start = ["a", "a"]': "search.warm_start must name each run once, but got ['a', 'a']",
    GOOD + "[search]\nprior = { a = inf }": "values must be finite numbers, strings, true or false, but got a=inf",
    GOOD + '[search]\nsamplr = "x"': "but got search.samplr; did you mean 'sampler'?",
    GOOD + "[budgets.latency_ms]\nat_mot = 3": "but got budgets.latency_ms.at_mot; did you mean 'at_most'?",
    GOOD + "[budgetz.latency_ms]\nat_most = 3": "but got budgetz; did you mean 'budgets'?",
    # wrong types
    GOOD
    + '[training]\nepochs = "ten"': "training.epochs: input should be a valid integer, but got training.epochs='ten'",
    GOOD + "[training]\nepochs = 2.5": "but got training.epochs=2.5",
    GOOD
    + "[training]\nepochs = 2020-01-01": "epochs: a value must be no date or time, but got training.epochs=2020-01-01",
    "seed = 1979-05-27T07:32:00Z\n"
    + GOOD: "seed: a value must be no date or time, but got seed=1979-05-27 07:32:00+00",
    GOOD.replace('"mine"', "07:32:00"): "name: a value must be no date or time, but got name=07:32:00",
    # extremes and control characters
    GOOD + f"[training]\nepochs = {2**63}": "training.epochs: an integer must have at most 64 bits, but got one of 64",
    GOOD + f"[training]\nepochs = 0x{'f' * 9000}": "training.epochs: an integer must have at most 64 bits",
    GOOD + "[training]\nlearning_rate = 1e999": "should be a finite number, but got training.learning_rate=inf",
    GOOD + f"[training]\nbudget = '{'long' * 999}'": f"but got training.budget='{('long' * 25)[:-1]}...",
    GOOD + f"[training]\nepochs = {'[' * 25}{']' * 25}": "tables and arrays must nest at most 20 deep",
    GOOD + f"[training]\nepochs.{'.'.join('a' * 30)} = 1": "tables and arrays must nest at most 20 deep",
    GOOD + '"evil\\u001b[31m\\nline" = 1': r"every key must be known, but got data.evil\x1b[31m\nline",
    GOOD + 'factory = "evil\\u001b[31m"': r"factory='evil\x1b[31m'",
    "trials = true\n" + GOOD: "trials: input should be a valid integer, but got trials=True",
    "budgets = 3\n" + GOOD: "budgets: input should be an object, but got budgets=3",
    GOOD + "[budgets]\nmacs = 3": "budgets.macs: input should be an object, but got budgets.macs=3",
    GOOD + '[teacher]\ndepths = ["1"]': "teacher.depths.0: input should be a valid integer",
    GOOD
    + '[teacher]\nfactory = "a:b"\nweights = "c"\nbn_sparsity = 0.1': "bn_sparsity needs a teacher that is trained",
    # out of range
    GOOD + "[teacher]\nbn_sparsity = -1": "teacher.bn_sparsity: input should be greater than or equal to 0",
    GOOD + "[training]\nepochs = 0": "training.epochs: input should be greater than 0, but got training.epochs=0",
    GOOD + "[training]\ncap = 0.5": "training.cap: input should be greater than or equal to 1",
    GOOD + "[training]\nlearning_rate = inf": "should be a finite number, but got training.learning_rate=inf",
    GOOD + "[training]\nlearning_rate = nan": "should be a finite number, but got training.learning_rate=nan",
    GOOD
    + '[training]\nbudget = "scratch_c"': "should be 'scratch_e' or 'scratch_b', but got training.budget='scratch_c'",
    "seed = -1\n" + GOOD: "seed: input should be greater than or equal to 0, but got seed=-1",
    "seed = 4294967296\n" + GOOD: "but got seed=4294967296",
    'device = "gpu"\n' + GOOD: "device: input should be 'auto', 'cpu' or 'cuda', but got device='gpu'",
    GOOD.replace("mine", "a b"): "but got name='a b'",
    GOOD.replace("mine", "../up"): "but got name='../up'",
    GOOD + "shift = -1": "but got data.shift=-1",
    GOOD + "[teacher]\ndepths = []": "teacher.depths:",
    # settings of families
    GOOD + "[teacher]\nheads = 2": "heads is a setting of vit and encoder, but got heads=2 for family 'resnet'",
    GOOD
    + '[teacher]\nfamily = "vit"\nstem_stride = 2': "stem_stride is a setting of resnet, mobilenet, conv1d and unet",
    GOOD + '[teacher]\nfamily = "vit"\nheads = 0': "teacher: heads must be a whole number of at least 1",
    GOOD + '[teacher]\nfamily = "vit"\nheds = 2': "but got teacher.heds; did you mean 'heads'?",
    GOOD + '[teacher]\nfamily = "vit"\nsharing = "all"': "every key must be known, but got teacher.sharing",
    GOOD + '[teacher]\nfamily = "resnett"': "a family must be a known name, but got 'resnett'; did you mean 'resnet'?",
    GOOD + '[teacher]\nfamily = "pruned"': "a family must be a known name, but got 'pruned'",
    GOOD + "[teacher]\nsettings = 2": "but got settings",
    GOOD + "[teacher]\ndepths = [1, 0]": "but got teacher.depths.1=0",
    # conditions of latencies
    GOOD + "[target]\nthread = 2": "every key must be known, but got target.thread; did you mean 'threads'?",
    GOOD + "[target]\nthreads = 0": "target.threads: input should be greater than 0, but got target.threads=0",
    GOOD + "[target]\nthreads = true": "target.threads: input should be a valid integer",
    GOOD + "[target]\nbatch = 0": "target.batch: input should be greater than 0, but got target.batch=0",
    GOOD + "[target]\nbatch = 1.5": "but got target.batch=1.5",
    GOOD
    + '[target]\npercentile = "p96"': "target: percentile must be a known name, but got 'p96'; did you mean 'p95'?",
    GOOD + "[target]\npercentile = 95": "target.percentile: input should be a valid string",
    GOOD + "[target]\nproviders = []": "target: providers must be one or more different names, but got []",
    GOOD + '[target]\nproviders = "CPU"': "target.providers: input should be a valid array",
    "target = 3\n" + GOOD: "target: input should be an object, but got target=3",
    GOOD + "[device]\npi = 3": "device.pi: input should be an object, but got device.pi=3",
    GOOD
    + '[device.pi]\nthreads = "x"': "device.pi.threads: input should be a valid integer, but got device.pi.threads='x'",
    GOOD + "[search]\nenqueue = 3": "search.enqueue: input should be a valid array, but got search.enqueue=3",
    # missing, or too much of it
    "": "name must be given, but is missing",
    'name = "mine"\nspace = "cnn"': "data must be given, but is missing",
    'name = "mine"\nspace = "cnn"\n[data]': "exactly one of name, factory, folder, text must be given, but got none",
    GOOD + 'factory = "a:b"': "exactly one of name, factory, folder, text must be given, but got name='digits', ",
    GOOD + '[teacher]\nfactory = "a:b"': "factory and weights must be given together, timm and weights too, "
    "but got factory='a:b' alone",
    GOOD
    + '[teacher]\nfactory = "a:b"\ntimm = "c"\nweights = "a"': "only one of factory, timm, hugging_face may be given, "
    "but got factory, timm",
    GOOD + '[teacher]\nweights_key = "ema"': "weights_key needs one of factory, timm, hugging_face, but got ",
    GOOD + '[teacher]\noutput = "logits"': "output needs a network of the user, but got output='logits'",
    GOOD + "[teacher]\ndepths = [1, 1]\nwidths = [16]": "one entry per stage each, but got widths=[16], depths=[1, 1]",
    # figures
    'objectives = ["acc"]\n'
    + GOOD: "an entry of objectives must be a known name, but got 'acc'; did you mean 'accuracy'?",
    'objectives = ["macs", "macs"]\n' + GOOD: "objectives must be at least one figure, each named once",
    "objectives = []\n" + GOOD: "objectives must be at least one figure",
    GOOD
    + "[budgets.latency]\nat_most = 3": "budgets must be a known name, but got 'latency'; did you mean 'latency_ms'?",
    GOOD + "[budgets.latency_ms]\nat_least = 3": "must have at_most (lower is better), but got {'at_least': 3.0}",
    GOOD + "[budgets.accuracy]\nat_most = 0.5": "must have at_least (higher is better), but got {'at_most': 0.5}",
    GOOD + "[budgets.macs]\nat_least = 1\nat_most = 2": "budgets.macs must have at_most",
    GOOD + "[budgets.macs]": "budgets.macs must have at_most (lower is better), but got nothing",
    GOOD + "[budgets.macs]\nat_most = 0": "budgets.macs.at_most: input should be greater than 0",
    GOOD + "[budgets.accuracy]\nat_least = 90": "budgets.accuracy.at_least <= 1 must hold (a fraction), but got 90",
}


@pytest.mark.parametrize(("text", "message"), MISTAKES.items(), ids=range(len(MISTAKES)))
def test_a_mistake_is_told_in_one_line_with_file_key_and_value(text: str, message: str, tmp_path: Path) -> None:
    line = refused(written(tmp_path, text))
    assert line.startswith("study.toml: ") and message in line


@pytest.mark.parametrize(
    ("text", "line"), [("a b", 1), (GOOD + "[training\n", 5), (GOOD + GOOD, 5), ("x = 1\nx = 2\n", 2)]
)
def test_broken_toml_is_told_with_its_line(text: str, line: int, tmp_path: Path) -> None:
    message = refused(written(tmp_path, text))
    assert "must be valid TOML" in message and f"line {line}" in message and "study.toml" in message


def test_what_is_no_study_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    assert "but got 'digit'; did you mean 'digits'?" in refused("digit")
    assert "a folder that holds one" in refused(tmp_path)
    assert "built-in name" in refused("x" * 5000)


UNREADABLE = {
    GOOD.encode("utf-16"): "is UTF-16: save it as UTF-8",
    GOOD.encode() + b'factory = "\xe4"': "has the byte 0xe4 in line 5: save it as UTF-8",
    b"#" * 600_000: "must have at most 500,000 bytes",
    (GOOD + "a = " + "[" * 3000).encode(): "tables and arrays must nest at most 20 deep, but ",
    (GOOD + "a." * 3000 + "a = 1").encode(): "study.toml has deeper ones (line 5)",
    (GOOD + "seed = " + "9" * 5000).encode(): "study.toml has a longer one (line 5)",
    (GOOD + 'seed = "\x1b"').encode(): r"Illegal character '\x1b' (at line 5, column 9)",
}


@pytest.mark.parametrize(("content", "message"), UNREADABLE.items(), ids=range(len(UNREADABLE)))
def test_a_file_of_another_kind_is_refused_with_its_name_and_the_place(
    content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / "study.toml").write_bytes(content)
    line = refused(tmp_path)
    assert message in line and str(tmp_path / "study.toml") in line


def test_a_byte_order_mark_and_line_ends_of_windows_are_read(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert read_study(tmp_path).spec == read_study(written(tmp_path, GOOD)).spec


def test_a_study_is_found_by_file_folder_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, GOOD)
    found = [read_study(place) for place in (path, str(path), tmp_path)]
    assert found[0] == found[1] == found[2]
    assert found[0].folder == tmp_path.resolve() and found[0].label == "study.toml" and found[0].candidate is None
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()  # an empty folder of that name does not hide the built-in study
    assert read_study("digits").spec.name == "digits"


@pytest.mark.parametrize("name", shipped_names("studies"))
def test_shipped_studies_parse_and_their_space_is_shipped(name: str) -> None:
    spec = read_study(name).spec
    assert spec.name == name and spec.space in shipped_names("search_spaces")
    assert parse_spec(spec.model_dump(mode="json"), "again") == spec


def test_shipped_files_are_found_or_not() -> None:
    assert shipped_folder("studies").is_dir() and shipped_folder("search_spaces").is_dir()
    assert "digits" in shipped_names("studies") and "cnn" in shipped_names("search_spaces")
    assert shipped_path("search_spaces", "cnn.py") == shipped_folder("search_spaces") / "cnn.py"
    assert shipped_path("search_spaces", "nothing.py") is None


@pytest.mark.parametrize(
    ("text", "dumped"),
    [
        ("", "onnxruntime_cpu"),
        ('target = "onnxruntime_cpu"\n', "onnxruntime_cpu"),
        ('[target]\nname = "onnxruntime_cpu"\nthreads = 1\npercentile = "p50"\n', "onnxruntime_cpu"),
        ('[target]\nproviders = ["CPUExecutionProvider"]\n', "onnxruntime_cpu"),
        ('target = "fake"\n', "fake"),
        (
            '[target]\nbatch = 8\npercentile = "p95"\n',
            {
                "name": "onnxruntime_cpu",
                "threads": 1,
                "batch": 8,
                "percentile": "p95",
                "providers": ["CPUExecutionProvider"],
            },
        ),
    ],
)
def test_a_target_is_a_name_or_a_table_and_stored_as_a_name_if_it_has_no_conditions(
    text: str, dumped: object, tmp_path: Path
) -> None:
    file = written(tmp_path, text + GOOD if text.startswith("target") else GOOD + text)
    spec = read_study(file).spec
    assert spec.model_dump(mode="json")["target"] == dumped
    assert parse_spec(spec.model_dump(mode="json"), "again") == spec
    identity = study_identity(spec, space_hash="s", data_fingerprint="d")
    assert identity.get("target") == (None if dumped == "onnxruntime_cpu" else dumped)


def test_samples_per_second_are_counted_if_a_study_names_them_or_times_several_samples() -> None:
    def counts(**values: object) -> bool:
        made = StudySpec(name="mine", space="cnn", data=DataSection(name="digits"), **values)  # type: ignore[arg-type]
        return made.device_settings.counts_samples

    assert not counts() and not counts(target={"threads": 2})
    assert counts(objectives=("accuracy", "samples_per_s"))
    assert counts(budgets={"samples_per_s": {"at_least": 10.0}})
    assert counts(target={"batch": 2})


def test_the_specification_is_frozen(tmp_path: Path) -> None:
    spec = read_study(written(tmp_path, GOOD)).spec
    for part, key in ((spec, "trials"), (spec.training, "epochs"), (spec.data, "seed")):
        with pytest.raises(pydantic.ValidationError, match="frozen"):
            setattr(part, key, 1)


def test_what_is_left_out_has_a_default_and_what_is_said_counts(tmp_path: Path) -> None:
    text = 'trials = 3\nobjectives = ["macs", "accuracy"]\n' + GOOD
    spec = read_study(
        written(tmp_path, text + "[budgets.size_bytes]\nat_most = 9\n[budgets.accuracy]\nat_least = 1")
    ).spec
    assert spec.trials == 3 and spec.device == "auto" and spec.training.budget == "scratch_e"
    assert spec.objective_list == (Objective(name="macs"), Objective(name="accuracy"))
    assert spec.budget_list == (Budget(name="size_bytes", limit=9), Budget(name="accuracy", limit=1))


CANDIDATE = Candidate(family="resnet", depths=(1, 1, 1))


def bundle(folder: Path, **changes: object) -> Path:
    values = {"study": StudySpec.model_validate_json(json.dumps(SPEC)).model_dump(mode="json")}
    path = folder / "config.json"
    path.write_text(json.dumps({**values, "candidate": CANDIDATE.to_dict(), **changes}))
    return path


SPEC = {"name": "mine", "space": "cnn", "data": {"name": "digits"}}


def test_an_exported_bundle_trains_its_candidate_again(tmp_path: Path) -> None:
    file = read_study(bundle(tmp_path))
    assert file.candidate == CANDIDATE and file.spec.name == "mine" and file.label == "config.json"


@pytest.mark.parametrize(
    "change",
    [
        {"candidate": None},
        {"candidate": "abc"},
        {"candidate": {}},
        {"candidate": {**CANDIDATE.to_dict(), "depths": ["a"]}},
        {"candidate": {**CANDIDATE.to_dict(), "losses": ["kd"]}},
        {"candidate": {**CANDIDATE.to_dict(), "new": 1}},
        {"candidate": {**CANDIDATE.to_dict(), "weight_bits": 7}},
        {"study": 3},
        {"study": {**SPEC, "trials": 0}},
        {"study_folder": 3},
    ],
)
def test_a_json_file_that_is_no_bundle_is_refused(change: dict[str, object], tmp_path: Path) -> None:
    assert "config.json" in refused(bundle(tmp_path, **change))


OTHER_JSON = ["{", "[]", "3", "null", '{"study": {}}', "[" * 100_000, '{"a": ' * 50_000, "9" * 5000, "\x00", "\xff"]


def test_a_bundle_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = bundle(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_study(path).candidate == CANDIDATE


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"candidate": ', '"candidate": {}, "candidate": ', "a key must occur once, but 'candidate' is repeated"),
        ('"width_multiplier": 1.0', '"width_multiplier": NaN', "a number must be finite, but got NaN"),
        ('"width_multiplier": 1.0', '"width_multiplier": 1e999', "width_multiplier"),
        ('"trials": ', '"new": 9223372036854775808, "trials": ', "an integer must have at most 64 bits"),
        ('"trials": ', '"new": ' + "[" * 500 + "]" * 500 + ', "trials": ', "nest at most 20 deep"),
    ],
)
def test_a_bundle_with_values_that_were_never_written_is_refused(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    path = bundle(tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert message in refused(path)


@pytest.mark.parametrize("text", OTHER_JSON, ids=range(len(OTHER_JSON)))
def test_other_json_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(text, encoding="latin-1")
    assert "must be the config.json of an exported bundle" in refused(path)


def test_a_floor_makes_another_study_and_no_floor_keeps_the_identity_of_earlier_ones(tmp_path: Path) -> None:
    plain, floor = (parse_spec(tomllib.loads(GOOD + more), "a") for more in ("", "[search]\naccuracy_floor = 0.9"))
    one, other = (study_identity(spec, space_hash="", data_fingerprint="") for spec in (plain, floor))
    assert "accuracy_floor" not in one["search"] and other["search"]["accuracy_floor"] == 0.9
