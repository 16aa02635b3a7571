"""What people import: three names, in any order, functions and not modules."""

import importlib
import subprocess
import sys


def test_the_public_names_are_what_they_say_in_any_order():
    import selfimprove

    importlib.import_module("selfimprove.api")
    assert callable(selfimprove.improve)
    assert callable(selfimprove.export)
    assert selfimprove.ResponseMemory.__name__ == "ResponseMemory"


def test_importing_the_package_and_asking_for_help_load_no_framework():
    script = "import sys, selfimprove.cli; sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
