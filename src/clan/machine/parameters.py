"""Kernel parameters, below /proc/sys."""

from __future__ import annotations

from pathlib import Path

from clan.machine.system import StepError

_PARAMETERS = Path("/proc/sys")


def set_parameter(
    key: str, value: str, instead_of: str | None = None, *, folder: Path = _PARAMETERS
) -> None:
    """Set a parameter that has another value, as `Sysctl` of a plan says. Raises StepError.

    `*` in the key is each that is there, of which there may be none. A slash is a dot of an
    interface's name, as in sysctl.d(5).
    """
    pattern = "/".join(part.replace("/", ".") for part in key.split("."))
    paths = sorted(folder.glob(pattern)) if "*" in key else [folder / pattern]
    for path in paths:
        try:
            present = path.read_text().strip()
            if present != value and instead_of in {None, present}:
                path.write_text(value)
        except FileNotFoundError:
            if "*" not in key:
                raise StepError(f"this kernel has no parameter {key}") from None
        except OSError as fault:
            raise StepError(f"the kernel parameter {key}: {fault.strerror}") from None
