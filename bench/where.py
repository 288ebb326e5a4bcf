"""Where figures were measured: what every comparison prints and saves beside them."""
import os
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def machine():
    with open("/proc/cpuinfo") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return {"cpu": models[0] if models else "unknown", "cores": len(os.sched_getaffinity(0))}


def commit():
    command = ["git", "-C", ROOT, "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def measured_at(**more):
    """The machine, the commit and the load before, with `more` beside them."""
    return {"machine": machine(), "commit": commit(), **more, "load_before": os.getloadavg()[0]}
