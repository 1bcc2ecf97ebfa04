"""What pyproject.toml cannot say: the wheel takes in `conf/` and `weights/demo/` as aistudio/builtin/."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

BUILTIN = ("conf", "weights/demo")


class BuildWithBuiltin(build_py):
    """Copies the built-in confs and weights beside the code; an editable installation reads the checkout's own."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for name in BUILTIN:
                shutil.copytree(name, Path(self.build_lib, "aistudio", "builtin", name), dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithBuiltin})
