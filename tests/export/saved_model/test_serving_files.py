"""The files that TensorFlow Serving reads: versions, configuration, warm-up requests."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from full_disk import files_of_at_most
from google.protobuf import text_format

from keras_seq_export import ExportError
from keras_seq_export.saved_model.serving_files import next_version, prediction_log, write_configuration, write_warm_up


def test_the_next_version_is_above_all_existing_ones(tmp_path):
    assert next_version(tmp_path) == tmp_path / "1"
    for name in ("2", "10", "model.config", "-3", "٤٢", "012"):
        (tmp_path / name).mkdir()
    assert next_version(tmp_path) == tmp_path / "13"  # The server reads 012 as 12.
    assert next_version(tmp_path / "7") == tmp_path / "7"
    assert next_version(tmp_path / "model" / "0") == tmp_path / "model" / "0"


@pytest.mark.parametrize("wrong", ["007", "00", str(2**63)])
def test_a_version_that_the_server_reads_differently_is_refused(wrong, tmp_path):
    with pytest.raises(ValueError, match=r"the name of the version directory must be a number from 0 to"):
        next_version(tmp_path / wrong)


def test_a_path_without_a_name_or_inside_a_version_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must be inside a directory named after the model"):
        next_version(Path("/1"))
    (tmp_path / "hamlet" / "1").mkdir(parents=True)
    (tmp_path / "hamlet" / "1" / "saved_model.pb").touch()
    for inside in ("1/hamlet", "1/2", "1/a/b"):
        with pytest.raises(ValueError, match="must not be inside the SavedModel"):
            next_version(tmp_path / "hamlet" / inside)


def test_there_is_no_version_after_the_last(tmp_path):
    (tmp_path / str(2**63 - 1)).mkdir()
    with pytest.raises(ValueError, match=f"Received: .*{2**63}"):
        next_version(tmp_path)


@pytest.mark.parametrize("name", ["hamlet", 'a "quoted" \\ name', "текст"])
def test_the_server_can_parse_the_configuration(name, tmp_path):
    model_server_config_pb2 = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")

    (tmp_path / name).mkdir()
    write_configuration(tmp_path / name)
    text = (tmp_path / name / "model.config").read_text()
    (model,) = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == (name, f"/models/{name}", "tensorflow")
    assert "max_batch_size { value: 32 }\n" in (tmp_path / name / "batching_parameters.txt").read_text()


def test_an_existing_configuration_is_not_changed(tmp_path):
    (tmp_path / "model.config").write_text("mine")
    write_configuration(tmp_path)
    assert (tmp_path / "model.config").read_text() == "mine"


def test_the_server_can_read_the_warm_up_requests(tmp_path):
    prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")

    write_warm_up(
        tmp_path, {"score": {"text": np.array([b"to be"], object)}, "decode": {"token": np.arange(300, dtype=np.int32)}}
    )
    records = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(tmp_path / "tf_serving_warmup_requests"))
    ]
    requests = [record.predict_log.request for record in records]
    assert [request.model_spec.signature_name for request in requests] == ["score", "decode"]
    assert tf.make_ndarray(requests[0].inputs["text"]).tolist() == [b"to be"]
    assert tf.make_ndarray(requests[1].inputs["token"]).tolist() == list(range(300))
    assert records[0].SerializeToString() == prediction_log("score", {"text": np.array([b"to be"], object)})


def test_a_configuration_that_cannot_be_written_is_not_half_written(tmp_path):
    (tmp_path / "hamlet").mkdir()
    expected = r"hamlet/model.config cannot be written: File too large"
    with files_of_at_most(20), pytest.raises(ExportError, match=expected):
        write_configuration(tmp_path / "hamlet")
    assert list((tmp_path / "hamlet").iterdir()) == []
