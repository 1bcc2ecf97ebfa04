"""Requests that a machine makes from the OpenAPI page, right and wrong ones: no answer is a 500, nothing dies.

benchmarks/serve_fuzz.py does the same for minutes, with bodies that are no HTTP too.
"""

import pytest

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
EXAMPLES = 12  # of each operation


def test_no_request_from_the_openapi_page_breaks_it(client, server):
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st

    schema = schemathesis.openapi.from_url(f"{server}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) >= 10
    broken, asked = [], 0
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
    for operation in operations:
        cases = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in modes))

        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )  # fmt: skip
        @given(case=cases)
        def ask(case):
            nonlocal asked
            answer = case.call(timeout=30)
            asked += answer.status_code != 404  # a path that a random name made
            if answer.status_code >= 500:
                broken.append((case.method, case.path, case.body, answer.status_code))

        try:
            ask()
        except Exception as e:
            # of some operations no wrong request can be made
            if "Unsatisfiable" not in type(e).__name__:
                raise
    assert not broken and asked >= 20
    assert client.get("/live").status_code == 200
