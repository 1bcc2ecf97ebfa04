"""Reading a manifest given as bytes: `read(data, "csv", columns={...})`."""

import functools
import io
from types import SimpleNamespace

import pyarrow as pa
import pytest

from aistudio.catalogue import Reading, inspect_manifest, read_manifest
from aistudio.config import ManifestSettings


def _read(data: bytes, fmt: str, file: str = "m", columns_of: bytes | None = None, batch_rows: int = 1000, **kw):
    """Candidates and rejects as lists of dicts; `kw` are ManifestSettings or id_prefix.

    Of the source columns, `rows` keep source_line and image_position; source_file is the file's name, always.
    """
    options = {name: kw.pop(name) for name in ("id_prefix",) if name in kw}
    settings = ManifestSettings(path=file, format=fmt, **kw)
    columns = inspect_manifest(io.BytesIO(data if columns_of is None else columns_of), file, settings)
    stream = io.BytesIO(data)
    batches = list(read_manifest(stream, file, settings, columns, batch_rows=batch_rows, **options))
    assert not stream.closed
    for batch in batches:
        assert batch.candidates.schema == columns.schema
        batch.candidates.validate(full=True)
        batch.rejected.validate(full=True)
        assert batch.candidates["source_file"].to_pylist() == [file] * batch.candidates.num_rows
    total = functools.reduce(Reading.plus, (b.reading for b in batches), Reading())
    assert total.lines == total.records + total.rejected + total.continued + total.others
    assert total.rejected == sum(b.rejected.num_rows for b in batches)
    candidates = pa.concat_tables([columns.schema.empty_table(), *(b.candidates for b in batches)])
    rejected = [r for b in batches for r in b.rejected.to_pylist()]
    return SimpleNamespace(
        rows=candidates.drop_columns("source_file").to_pylist(),
        reading=total,
        rejected=rejected,
        columns=columns,
        sizes=[b.candidates.num_rows for b in batches],
    )


@pytest.fixture(scope="session")
def read():
    return _read
