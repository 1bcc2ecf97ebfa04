"""Hands a run on to other programs: its rows with one model's vectors, in their format, by their own library.

One module for each format, of the format's name, with a `FORMAT` (format.py). Whatever the format: rows stream through
in bounded memory, the result is read back by that library and compared with the run before it gets its name (place.py,
checking.py), and `export.json` beside it says what it holds (export.py). Nothing is written into the run.

source.py (which rows, which vectors), columns.py (types that other programs read), overlap.py (what shorter or smaller
vectors lose), bucket.py (places in a bucket).
"""

FORMATS = {
    "npy": "a NumPy matrix, with the rows in ids.parquet beside it",
    "faiss": "a FAISS index of inner products, with the rows in ids.parquet beside it",
    "lance": "a LanceDB folder with the table `images`",
    "hf": "a folder of Parquet files that Hugging Face's load_dataset reads",
    "webdataset": "tar files of pictures, texts, columns and vectors",
}
