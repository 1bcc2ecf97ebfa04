"""`python -m jobs.poi_table`: the code is aistudio/jobs/poi_table.py."""

from aistudio.jobs.common import run
from aistudio.jobs.poi_table import main

if __name__ == "__main__":
    run(main)
