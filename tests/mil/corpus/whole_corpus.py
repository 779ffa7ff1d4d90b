"""Every entry of the corpus that ``make test`` has no time to convert: minutes of one core, by ``make corpus``."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus_models import CORPUS
from test_corpus import SAMPLE, check_analysis, check_run

REST = sorted(CORPUS.keys() - set(SAMPLE))


@pytest.mark.parametrize("name", REST)
def test_it_runs_as_pytorch_does(name: str) -> None:
    check_run(name, "fp32")


@pytest.mark.parametrize("name", REST)
def test_it_runs_in_half_precision(name: str) -> None:
    check_run(name, "fp16")


@pytest.mark.parametrize("name", REST)
def test_it_is_analysed(name: str, tmp_path: Path) -> None:
    check_analysis(name, tmp_path)
