"""Comparison and publishing, the two gates of every export."""

import numpy as np
import pytest

from keras_seq_export import ExportError
from keras_seq_export.comparison import compare
from keras_seq_export.publishing import publishing


def test_compare_refuses_what_is_not_finite_or_not_alike():
    with pytest.raises(ExportError, match="finite"):
        compare("decode", np.zeros(2), np.array([0, np.nan]))
    with pytest.raises(ExportError, match="shape"):
        compare("decode", np.zeros(2), np.zeros(3))
    assert compare("decode", np.zeros(2), np.full(2, 5e-5)) == pytest.approx(5e-5)


def test_publishing_leaves_nothing_after_an_error(tmp_path):
    def write_half():
        with publishing(tmp_path / "deep" / "down" / "file") as (partial,):
            partial.write_text("half")
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_publishing_gives_way_to_who_came_first(tmp_path):
    def write_late():
        with publishing(tmp_path / "file") as (partial,):
            partial.write_text("late")
            (tmp_path / "file").write_text("first")

    with pytest.raises(ExportError, match="exists"):
        write_late()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "first")]
