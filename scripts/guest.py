"""Guests: a command in a Linux whose kernel has CAN, on a machine whose own kernel has not.

    uml     User-Mode Linux (Debian's user-mode-linux): vcan, slcan, j1939; boots in seconds, needs no privilege
    qemu    qemu-system-x86_64 with Debian's generic kernel: two emulated SJA1000 controllers on one bus

The guest's root is this machine's own tree, so the checkout and its virtual environment are at their own
paths; what the guest writes, it writes here. Kernels are fetched from Debian by package name and kept in
~/.cache/ayaz (or $AYAZ_CACHE). `python scripts/guest.py uml COMMAND...` runs one by hand.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
PATH = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
UML_MODULES = (
    *(f"net/can/{name}" for name in ("can", "can-raw", "j1939/can-j1939")),
    *(f"drivers/net/can/{name}" for name in ("dev/can-dev", "vcan", "vxcan", "slcan/slcan")),
)
QEMU_BOOT = ("virtio_pci", "9pnet_virtio", "9p")
QEMU_CAN = ("can-raw", "vcan", "kvaser_pci")


class GuestError(Exception):
    """A guest can't be had here: the text says why."""


class Finished(NamedTuple):
    """What became of a command in a guest."""

    returncode: int
    output: str


def cache() -> Path:
    """Where kernels are kept."""
    path = Path(os.environ.get("AYAZ_CACHE") or Path.home() / ".cache" / "ayaz")
    path.mkdir(parents=True, exist_ok=True)
    return path


def need(program: str, package: str) -> str:
    """The program's path.

    Raises
    ------
    GuestError
        It is not installed.
    """
    found = shutil.which(program, path=PATH)
    if not found:
        raise GuestError(f"{program} is not installed (apt install {package})")
    return found


def unpacked(package: str) -> Path:
    """The tree of a Debian package, fetched once.

    Raises
    ------
    GuestError
        This is no Debian, or the package can't be fetched.
    """
    with _locked():
        return _unpacked(package)


@contextmanager
def _locked() -> Iterator[None]:
    """One at a time fetches and makes."""
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _unpacked(package: str) -> Path:
    tree = cache() / package
    if not tree.is_dir():
        need("apt-get", "apt")
        need("dpkg", "dpkg")
        with tempfile.TemporaryDirectory(dir=cache()) as folder:
            deb = _download(package, Path(folder))
            fresh = Path(folder) / "tree"
            _run(["dpkg", "-x", str(deb), str(fresh)])
            fresh.chmod(0o755)
            fresh.rename(tree)
    return tree


def _download(package: str, folder: Path) -> Path:
    folder.chmod(0o777)  # apt downloads as a user of its own
    try:
        _run(["apt-get", "download", "-q", package], cwd=folder)
    except GuestError:
        if os.getuid() != 0:
            raise
        _run(["apt-get", "update", "-qq"])
        _run(["apt-get", "download", "-q", package], cwd=folder)
    return next(folder.glob("*.deb"))


def _run(command: Sequence[str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise GuestError(f"{' '.join(command[:3])}: {last}")
    return done.stdout


def run_uml(command: Sequence[str], timeout_s: float, mem_mb: int = 512) -> Finished:
    """A command in User-Mode Linux, with vcan0 and vcan1 up.

    Raises
    ------
    GuestError
        The guest can't be had, died, or took too long.
    """
    need("insmod", "kmod")
    need("ip", "iproute2")
    tree = unpacked("user-mode-linux")
    modules = next((tree / "usr/lib/uml/modules").iterdir()) / "kernel"
    with tempfile.TemporaryDirectory(prefix="ayaz-guest-") as name:
        run = Path(name)
        _write_job(run, command, [f"insmod {modules}/{m}.ko" for m in UML_MODULES])
        machine = [
            str(tree / "usr/bin/linux.uml"),
            f"mem={mem_mb}M",
            *("root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw"),
            *("con=null", "con0=null,fd:1", "ssl=null", f"umid={run.name}", f"uml_dir={run}/"),
            f"init={HERE / 'guest-init'}",
            f"GUEST_RUN={run}",
        ]
        return _finish(run, machine, timeout_s)


def run_qemu(command: Sequence[str], timeout_s: float, mem_mb: int = 1024) -> Finished:
    """A command in an emulated PC with two SJA1000 controllers, can0 and can1, on one bus.

    Raises
    ------
    GuestError
        The guest can't be had, died, or took too long.
    """
    need("ip", "iproute2")
    qemu = need("qemu-system-x86_64", "qemu-system-x86")
    kernel, initrd = _qemu_kernel()
    with tempfile.TemporaryDirectory(prefix="ayaz-guest-") as name:
        run = Path(name)
        _write_job(run, command, [])
        machine = [
            *(qemu, "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"),
            *("-m", str(mem_mb), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-kernel", str(kernel), "-initrd", str(initrd), "-serial", "stdio"),
            "-append",
            f"console=ttyS0 quiet panic=-1 mitigations=off GUEST_INIT={HERE / 'guest-init'} GUEST_RUN={run}",
            "-virtfs",
            "local,path=/,mount_tag=host,security_model=none,multidevs=remap,id=h",
            *("-object", "can-bus,id=bus", "-device", "kvaser_pci,canbus=bus"),
            *("-device", "kvaser_pci,canbus=bus"),
        ]
        return _finish(run, machine, timeout_s)


def _write_job(run: Path, command: Sequence[str], setup: Sequence[str]) -> None:
    """What guest-init does first, and the command in this directory and environment."""
    skipped = {"PWD", "OLDPWD", "SHLVL", "_"}
    environment = [
        f"export {k}={shlex.quote(v)}"
        for k, v in os.environ.items()
        if k not in skipped and re.fullmatch(r"[A-Za-z_]\w*", k)
    ]
    (run / "setup").write_text("\n".join(setup) + "\n")
    job = [*environment, f"cd {shlex.quote(str(Path.cwd()))} || exit 126", shlex.join(command)]
    (run / "job").write_text("\n".join(job) + "\n")


def _finish(run: Path, machine: Sequence[str], timeout_s: float) -> Finished:
    with (run / "console").open("wb") as console:
        guest = subprocess.Popen(
            machine,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            guest.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise GuestError(f"not done within {timeout_s:g} s:\n{_said(run)}") from None
        finally:
            if guest.poll() is None:
                os.killpg(guest.pid, signal.SIGKILL)
                guest.wait()
    code = (run / "rc").read_text().strip() if (run / "rc").exists() else ""
    if not code:
        raise GuestError(f"the guest died:\n{_said(run)}")
    return Finished(int(code), (run / "out").read_text("utf-8", "replace"))


def _said(run: Path) -> str:
    texts = [
        (run / name).read_text("utf-8", "replace") for name in ("console", "out") if (run / name).exists()
    ]
    return "\n".join("\n".join(text.splitlines()[-20:]) for text in texts)


def _qemu_kernel() -> tuple[Path, Path]:
    """Debian's generic kernel, and an initrd that finds this machine's root over 9p and loads the CAN drivers."""
    busybox, modprobe = need("busybox", "busybox-static"), need("modprobe", "kmod")
    meta = _run(["apt-cache", "depends", "linux-image-amd64"])
    found = re.search(r"Depends: (linux-image-[\w.+-]+)", meta)
    if not found:
        raise GuestError("apt knows no linux-image-amd64")
    with _locked():
        tree = _unpacked(found[1])
        kernel, initrd = next((tree / "boot").glob("vmlinuz-*")), tree / "initrd.gz"
        if not initrd.exists():
            _make_initrd(tree, kernel.name.removeprefix("vmlinuz-"), busybox, modprobe, initrd)
    return kernel, initrd


def _make_initrd(tree: Path, version: str, busybox: str, modprobe: str, initrd: Path) -> None:
    base = tree / "usr" if (tree / "usr/lib/modules").is_dir() else tree
    _run([need("depmod", "kmod"), "-b", str(base), version])
    with tempfile.TemporaryDirectory(dir=cache()) as name:
        root = Path(name)
        for folder in ("bin", "m", "proc", "sys", "dev", "host"):
            (root / folder).mkdir()
        shutil.copy(busybox, root / "bin/busybox")
        order: list[str] = []
        for module in (*QEMU_BOOT, *QEMU_CAN):
            shown = _run([modprobe, "-d", str(base), "-S", version, "--show-depends", module])
            for line in shown.splitlines():
                kind, _, path = line.partition(" ")
                if kind == "insmod" and Path(path.strip()).name not in order:
                    shutil.copy(path.strip(), root / "m")
                    order.append(Path(path.strip()).name)
        (root / "m/order").write_text("\n".join(order) + "\n")
        shutil.copy(HERE / "guest-initrd", root / "init")
        pack = f"find . | {shlex.quote(busybox)} cpio -o -H newc 2>/dev/null | gzip -1 > made.tmp"
        _run(["sh", "-c", f"cd {shlex.quote(name)} && {pack}"])
        (root / "made.tmp").rename(initrd)
    shutil.rmtree(base / "lib")  # 400 MB of drivers for what this PC has not


if __name__ == "__main__":
    kinds = {"uml": run_uml, "qemu": run_qemu}
    if len(sys.argv) < 3 or sys.argv[1] not in kinds:
        sys.exit("usage: guest.py uml|qemu COMMAND [ARGUMENT...]")
    try:
        finished = kinds[sys.argv[1]](sys.argv[2:], 600)
    except GuestError as error:
        sys.exit(f"guest: {error}")
    print(finished.output, end="")
    sys.exit(finished.returncode)
