import subprocess
import sys

import qtf


def test_import_is_quick_and_takes_no_framework():
    code = (
        "import sys, time; start = time.perf_counter(); import qtf; took = time.perf_counter() - start;"
        "print(took, *sorted({'torch', 'tensorflow', 'jax', 'pennylane', 'numpy'} & set(sys.modules)))"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)]
    took, *modules = min(run.stdout for run in runs).split()
    print(f"import qtf: {1e3 * float(took):.0f} ms")
    assert modules == []
    assert float(took) < 0.5


def test_all_names_exist(program):
    assert all(hasattr(qtf, name) for name in qtf.__all__)
    assert program("version").split() == ["qtf", qtf.__version__]
