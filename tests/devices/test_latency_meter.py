"""The meter on real files. No figure is compared with a clock time: the machine may be busy."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu
from nas_compress.devices.onnxruntime_cpu.latency import GatedLatency, LatencyMeter
from nas_compress.devices.onnxruntime_cpu.machine import describe_machine, usable_cores
from nas_compress.devices.onnxruntime_cpu.reference_net import reference_net
from nas_compress.devices.onnxruntime_cpu.timed_session import TimedNet
from nas_compress.errors import RequestError
from nas_compress.values.device_settings import DeviceSettings
from timing import cache_in, learned_level_in, meter_with_level, save_net


def test_the_first_measurement_learns_the_level_and_more_work_takes_longer(tmp_path: Path) -> None:
    meter = LatencyMeter(cache=tmp_path, time_limit_s=1.0)
    small = meter.measure(save_net(tmp_path / "small.onnx", channels=32, side=16))
    learned = cache_in(tmp_path).level()
    large = meter.measure(save_net(tmp_path / "large.onnx", channels=32, side=64))  # 16 times the work
    assert learned is not None and learned.fast_ms >= small.reference_ms > 0
    assert large.latency_ms > 3 * small.latency_ms > 0
    assert small.spread >= 0 and small.blocks >= 1


def test_a_kept_latency_comes_back_without_opening_a_file(tmp_path: Path) -> None:
    meter = meter_with_level(tmp_path, 1e6)
    first = meter.measure(save_net(tmp_path / "net.onnx"), key="net")
    assert not first.noisy
    assert meter.measure(tmp_path / "gone.onnx", key="net") == first
    assert LatencyMeter(cache=tmp_path).measure(tmp_path / "gone.onnx", key="net") == first
    with pytest.raises(RequestError):
        meter.measure(tmp_path / "gone.onnx", key="other")


def test_a_noisy_latency_is_not_kept_and_the_time_limit_ends_it(tmp_path: Path) -> None:
    meter = meter_with_level(tmp_path, 1e-6, blocks=20)  # no machine is that fast
    latency = meter.measure(save_net(tmp_path / "net.onnx"), key="net")
    assert latency.noisy and latency.latency_ms > 0
    assert cache_in(tmp_path).find("net") is None


def test_without_a_key_nothing_is_kept_but_the_level(tmp_path: Path) -> None:
    latency = meter_with_level(tmp_path, 1e6).measure(save_net(tmp_path / "net.onnx"))
    level = cache_in(tmp_path).level()
    assert level is not None and level.fast_ms == latency.reference_ms < 1e6
    assert '"latencies": {}' in next(tmp_path.glob("*.json")).read_text()


def test_a_broken_cache_file_is_survived(tmp_path: Path) -> None:
    (tmp_path / f"{describe_machine().key}.json").write_text("{")
    latency = LatencyMeter(cache=tmp_path, time_limit_s=0.3).measure(save_net(tmp_path / "net.onnx"))
    assert isinstance(latency, GatedLatency)
    assert cache_in(tmp_path).level() is not None


def test_the_cache_folder_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_COMPRESS_CACHE", str(tmp_path))
    meter_with_level(tmp_path / "latency", 1e6).measure(save_net(tmp_path / "net.onnx"), key="net")
    assert LatencyMeter().measure(tmp_path / "gone.onnx", key="net").latency_ms > 0


@pytest.fixture(scope="module")
def meter(tmp_path_factory: pytest.TempPathFactory) -> LatencyMeter:
    return meter_with_level(tmp_path_factory.mktemp("meter"), 1e6)


def refused(meter: LatencyMeter, model: Path) -> str:
    with pytest.raises(RequestError) as caught:
        meter.measure(model)
    assert "\n" not in str(caught.value) and str(model) in str(caught.value)
    return str(caught.value)


def test_a_file_that_is_no_model_is_refused_in_one_line(meter: LatencyMeter, tmp_path: Path) -> None:
    text = tmp_path / "notes.onnx"
    text.write_text("not a model\nat all\n")
    assert "ONNX model" in refused(meter, text)
    assert "must be readable" in refused(meter, tmp_path / "missing.onnx")
    assert "must be readable" in refused(meter, tmp_path)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.INT64, TensorProto.DOUBLE, TensorProto.BOOL])
def test_inputs_of_other_types_are_timed(meter: LatencyMeter, tmp_path: Path, kind: int) -> None:
    assert meter.measure(save_net(tmp_path / "net.onnx", input_type=kind)).latency_ms > 0


def test_a_batch_of_fixed_size_is_refused(meter: LatencyMeter, tmp_path: Path) -> None:
    model = save_net(tmp_path / "batch.onnx")
    graph = onnx.load(model)
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8
    onnx.save(graph, model)
    assert "must have a free first dimension" in refused(meter, model)


def test_a_free_dimension_needs_a_size_and_has_a_latency_for_each(tmp_path: Path) -> None:
    meter, model = meter_with_level(tmp_path / "latency", 1e6), save_net(tmp_path / "free.onnx")
    graph = onnx.load(model)
    graph.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "side"
    onnx.save(graph, model)
    assert "side" in refused(meter, model)
    small = meter.measure(model, sizes={"side": 8}, key="free")
    assert meter.measure(tmp_path / "gone.onnx", sizes={"side": 8}, key="free") == small
    with pytest.raises(RequestError):
        meter.measure(tmp_path / "gone.onnx", sizes={"side": 16}, key="free")


def test_settings_out_of_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="time_limit_s > 0"):
        LatencyMeter(cache=tmp_path, time_limit_s=0)
    with pytest.raises(RequestError, match="blocks >= 1"):
        LatencyMeter(cache=tmp_path, blocks=0)


def test_the_reference_net_is_the_same_each_time_and_runs() -> None:
    content = reference_net()
    assert content == reference_net()
    onnx.checker.check_model(content)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"input": np.full((2, 1, 16, 16), 200, dtype=np.uint8)})
    assert logits.shape == (2, 32, 1, 1)
    assert np.isfinite(logits).all() and logits.std() > 0


def test_a_batch_of_the_settings_is_timed(tmp_path: Path) -> None:
    model, settings = save_net(tmp_path / "batch.onnx"), DeviceSettings(batch=8)
    graph = onnx.load(model)
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8
    onnx.save(graph, model)
    assert "must have a free first dimension" in refused(LatencyMeter(cache=tmp_path, time_limit_s=0.1), model)
    eight = LatencyMeter(cache=tmp_path, time_limit_s=0.1, blocks=1, settings=settings)
    assert eight.measure(model).latency_ms > 0
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(graph, model)
    assert "must have a free first dimension" in refused(eight, model)


def test_a_percentile_has_several_runs_in_each_block(tmp_path: Path) -> None:
    model = save_net(tmp_path / "net.onnx")
    assert len(TimedNet(model, block_ms=1e-9).runs_ms()) == 1
    assert len(TimedNet(model, block_ms=1e-9, settings=DeviceSettings(percentile="mean")).runs_ms()) == 1
    assert len(TimedNet(model, block_ms=1e-9, settings=DeviceSettings(percentile="p95")).runs_ms()) == 5


def test_each_setting_and_each_device_keeps_a_cache_of_its_own(tmp_path: Path) -> None:
    made = [
        LatencyMeter(cache=tmp_path),
        LatencyMeter(cache=tmp_path, settings=DeviceSettings(batch=2)),
        LatencyMeter(cache=tmp_path, settings=DeviceSettings(percentile="p95")),
        LatencyMeter(cache=tmp_path, device="onnxruntime_other"),
        LatencyMeter(cache=tmp_path, device="onnxruntime_other", settings=DeviceSettings(batch=2)),
    ]
    assert made[0].fingerprint == describe_machine().key, "the file of earlier releases"
    assert len({meter.fingerprint for meter in made}) == len(made)
    assert LatencyMeter(cache=tmp_path, settings=DeviceSettings(counts_samples=True)).fingerprint == made[0].fingerprint
    model = save_net(tmp_path / "net.onnx")
    for meter in made[:2]:
        learned_level_in(tmp_path, fast_ms=1e6, settings=meter.settings)
        short = LatencyMeter(cache=tmp_path, time_limit_s=0.3, blocks=2, settings=meter.settings)
        short.measure(model, key="net")
    names = {path.stem for path in tmp_path.glob("*.json")}
    assert names == {meter.fingerprint for meter in made[:2]}


def test_a_second_device_under_onnxruntime_shares_the_meter_and_not_the_name(tmp_path: Path) -> None:
    other = OnnxruntimeCpu(LatencyMeter(cache=tmp_path, device="onnxruntime_other"))
    assert other.name == other.describe()["device"] == "onnxruntime_other"
    assert other.describe()["key"] == other.fingerprint != OnnxruntimeCpu().fingerprint
    with other.provisional() as tried:
        assert (tried.name, tried.fingerprint) == (other.name, other.fingerprint)


def test_settings_that_the_machine_does_not_have_are_refused(tmp_path: Path) -> None:
    cores = usable_cores()
    line = f"threads <= {cores} must hold, the cores of this machine, but got threads={cores + 1}"
    with pytest.raises(RequestError, match=line):
        LatencyMeter(cache=tmp_path, settings=DeviceSettings(threads=cores + 1))
    with pytest.raises(RequestError, match=r"a provider must be a known name, but got 'CUDA'; .*CPUExecutionProvider"):
        LatencyMeter(cache=tmp_path, settings=DeviceSettings(providers=("CUDA",)))


def test_a_provider_that_the_runtime_drops_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fall_back(model: str, *, settings: DeviceSettings) -> onnxruntime.InferenceSession:
        return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

    monkeypatch.setattr("nas_compress.devices.onnxruntime_cpu.timed_session.start_session", fall_back)
    settings = DeviceSettings(providers=("CUDAExecutionProvider", "CPUExecutionProvider"))
    with pytest.raises(RequestError, match=r"must run the model by CUDA.*, but used CPUExecutionProvider for"):
        TimedNet(save_net(tmp_path / "net.onnx"), block_ms=1.0, settings=settings)
