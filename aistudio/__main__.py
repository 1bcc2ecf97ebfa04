"""`python -m aistudio <verb>`: the same as the command `aistudio <verb>`."""

from aistudio.jobs.cli import main

if __name__ == "__main__":
    main()
