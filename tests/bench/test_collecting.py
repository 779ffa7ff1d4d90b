"""The cases of a request, and a result put together when a run broke off."""

from __future__ import annotations

import json
from pathlib import Path

from fake_device import PHONE, case

from edgesam_export.bench.driver.collecting import assemble, planned_cases
from edgesam_export.bench.schema import check_document

REQUEST = json.loads((Path(__file__).parent.parent / "goldens" / "bench" / "request.json").read_text())
NAMES = [
    "cpu_and_ne/cpu_and_ne/n1",
    "cpu_and_ne/cpu_and_ne/n4",
    "cpu_and_ne/cpu_and_ne/n4/vary",
    "all/cpu_only/reshape_infrequent/specialize_fast_prediction/n1",
    "all/cpu_only/reshape_infrequent/specialize_fast_prediction/n4",
    "all/cpu_only/reshape_infrequent/specialize_fast_prediction/n4/vary",
]
"""As the app names them; its own test of the golden request expects the same list."""


def test_the_cases_of_a_request_are_those_that_the_app_runs():
    cases = planned_cases(REQUEST)
    assert [case.name for case in cases] == NAMES
    assert [case.n_points for case in cases] == [1, 4, 4] * 2
    assert [case.vary_points for case in cases] == [False, False, True] * 2
    assert [case.compute_units["decoder"] for case in cases] == ["cpu_and_ne"] * 3 + ["cpu_only"] * 3


def test_the_case_under_way_has_the_error_and_those_after_it_are_skipped():
    finished = [case("cpu_and_ne", id=NAMES[0])]
    document = assemble(
        REQUEST, finished, PHONE, runtime="coreml_stand_in", outcome="crashed", error={"message": "out of memory"}
    )
    check_document(document, "result", "result")
    assert [entry["id"] for entry in document["cases"]] == NAMES
    assert [entry["outcome"] for entry in document["cases"]] == ["ok", "crashed"] + ["skipped"] * 4
    assert [entry["n_points"] for entry in document["cases"]] == [1, 4, 4] * 2
    assert document["cases"][1]["error"] == {"message": "out of memory"}
    assert document["cases"][1]["runtime"] == "coreml_stand_in"
    assert document["cases"][3]["compute_units"] == {"encoder": "all", "decoder": "cpu_only"}
    assert document["cases"][3]["error"] == {"message": "the run broke off before this case"}


def test_a_case_whose_name_is_unlike_any_pattern_keeps_the_points_of_its_request():
    units = {"encoder": "n7", "decoder": "all"}
    request = REQUEST | {"matrix": [{"compute_units": units, "hints": None}]}
    assert [case.n_points for case in planned_cases(request)] == [1, 4, 4]
