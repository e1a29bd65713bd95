"""Is there an NVIDIA GPU, whatever the driver says? Asked of the PCI bus, which needs no driver."""

from __future__ import annotations

from pathlib import Path

BUS = Path("/sys/bus/pci/devices")
NVIDIA = "0x10de"  # pci-ids.ucw.cz
DISPLAY_CONTROLLER = "0x03"  # PCI base class; a GPU's sound device and USB controller have others


def find_nvidia_devices(bus: Path = BUS) -> tuple[str, ...]:
    """The PCI addresses of NVIDIA's GPUs; none where there is no PCI bus to read, as under WSL."""
    try:
        devices = sorted(bus.iterdir())
    except OSError:
        return ()
    return tuple(
        device.name
        for device in devices
        if _read(device / "vendor") == NVIDIA and _read(device / "class").startswith(DISPLAY_CONTROLLER)
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip().lower()
    except OSError:
        return ""
