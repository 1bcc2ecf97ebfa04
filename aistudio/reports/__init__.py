"""The report: tables and dicts in, HTML, JavaScript data and CSV bytes out.

Nothing here reads or writes a file of the run or knows the engine; `pipeline/report.py` streams the
stored rows in and writes what comes out.
"""
