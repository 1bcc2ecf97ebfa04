"""A tour of the Python interface, as a notebook's cells. Run them one by one, or: python docs/python_tour.py RUN"""

# %% Open a run that is scored (`make demo` leaves one in runs/demo)
import sys

import aistudio

run = aistudio.open_run(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
print(f"aistudio {aistudio.__version__}: {run.path}, {run.num_rows:,} rows, {run.record.counts}")

# %% What failed, and why: rows as data frames, a batch at a time
for frame in run.rows(["row_id", "status", "error"]).pandas():
    print(frame[frame["status"] != "ok"].head().to_string(index=False))

# %% Vectors as a matrix
row_ids, vectors = run.vectors().matrix()
print(f"{len(row_ids):,} images have a vector of {vectors.shape[1]} numbers")

# %% The same as torch tensors, for a model of your own
for batch in run.rows(["embedding", "recall_score"], where={"status": "ok"}, batch_rows=256).torch():
    print({name: tuple(tensor.shape) for name, tensor in batch.items()})

# %% Pictures, as they are stored
for image in run.images(row_ids[:3]):
    print(image.row_id, image.image_url, f"{len(image.jpeg or b''):,} bytes")

# %% Search: like a picture of the run, like a text
for what in ({"row_id": row_ids[0]}, {"text": "酒店"}):
    found = run.search(**what, top_n=3)
    print(found.table().select(["rank", "item_id", "row_id", "score", "why"]).to_pandas().to_string(index=False))

# %% Metrics, and the report
metrics = run.aggregate(k=[1, 5])["metrics"]
for name in ("hit_rate@1", "hit_rate@5", "map"):
    m = metrics[name]
    print(f"{name:<12} {m['value']:.3f}  ({m['low']:.3f} .. {m['high']:.3f}, {m['n']} queries)")
print(run.report())
