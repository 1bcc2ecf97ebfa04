"""`python -m jobs.cli <verb>`: the same as `aistudio <verb>`."""

from aistudio.jobs.cli import main

if __name__ == "__main__":
    main()
