"""An emulated ARM processor: what it takes, fetched into a folder, and how a program is run on it.

QEMU's user mode runs programs of another processor as processes of this one. With it come a Python
and the libraries of Debian 12 for arm64, and the wheels of ncnn and sherpa-ncnn for it. Nothing is
installed into the system. Packages are pinned by version and digest; what this machine's own
sources of packages do not have can be put into the folder by hand.
"""

from __future__ import annotations

import platform
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.files import scratch, write_json
from transducer2ncnn.base.fingerprints import fingerprint

#: Debian's packages: name, architecture, version, SHA-256.
DEBIAN = (
    (
        "qemu-user-static",
        "amd64",
        "1:7.2+dfsg-7+deb12u18+b3",
        "c3e3ba2bd87f8c5b9a5da5ef21b5a3b82d7c63b89dd448d9ddaa4eabc5b6e402",
    ),
    (
        "python3.11-minimal",
        "arm64",
        "3.11.2-6+deb12u9",
        "617855dbf3299e03873926c75d61feaf3d36924586aecc1951a0b965a95bc694",
    ),
    (
        "libpython3.11-minimal",
        "arm64",
        "3.11.2-6+deb12u9",
        "dd9847d2f77c5a924b1d3dd953b81f161db9374c94d03b9216191925350928c3",
    ),
    (
        "libpython3.11-stdlib",
        "arm64",
        "3.11.2-6+deb12u9",
        "9937cbe3f647aa89a590fec647438ce02098c113d1c6f70e4cb1230c368d42a4",
    ),
    (
        "libc6",
        "arm64",
        "2.36-9+deb12u14",
        "01f4330719fd4f65580e16ea5a0527f372fca750e8f588d26deaf09f2d3b1cf4",
    ),
    (
        "libgcc-s1",
        "arm64",
        "12.2.0-14+deb12u1",
        "576926b283613db80168ddf76380a3bd877602778cf0d226caa7bfbfa71eacf3",
    ),
    (
        "libstdc++6",
        "arm64",
        "12.2.0-14+deb12u1",
        "26e138c677a985775331373828a6c286c551ff397cb735d00e2383cb273d1cb2",
    ),
    (
        "libgomp1",
        "arm64",
        "12.2.0-14+deb12u1",
        "a48b70dd1a95585466b40bd94564bce56ebcb2566e49ccdb6441e996aaab2098",
    ),
    (
        "zlib1g",
        "arm64",
        "1:1.2.13.dfsg-1",
        "52b8b8a145bbe1956bba82034f77022cbef0c3d0885c9e32d9817a7932fe1913",
    ),
    (
        "libexpat1",
        "arm64",
        "2.5.0-1+deb12u5",
        "4a733e7f636de4a4483e3e5d7b02dc8e788b115361a04dd58df89461ce2ae65a",
    ),
    (
        "libffi8",
        "arm64",
        "3.4.4-1",
        "80b5c36177dc0e29d531c7eddbed3cc7355cb490e49f8cfa5959572d161f27b3",
    ),
)
#: Wheels for aarch64: distribution, version, SHA-256.
WHEELS = (
    (
        "sherpa-ncnn-bin",
        "2.1.15",
        "7fcb7a6593c10781068802cf3100186ed7db3409f7afb966ee1e7baa7a2992f1",
    ),
    (
        "sherpa-ncnn-core",
        "2.1.15",
        "5360479d33d75345d7cec42485348aaa28740e04185a9f66ef95d9c2c175b529",
    ),
    (
        "ncnn",
        "1.0.20261020",
        "0503da4f3960ee2e555feef55db13adffd6c62eb59a4bd22f8083b12d1757ad8",
    ),
    (
        "numpy",
        "2.4.6",
        "0ab0a9c4ffb1a6d95ef519fe4247dba8eb6b18ad93999f76b7f657039acabd47",
    ),
)
#: Folders of an installation.
SYSTEM, HOST, SITE, PACKAGES = "arm64", "host", "site-packages", "packages"
#: What sherpa-ncnn-bin's wheel calls its program.
PROGRAM = "sherpa_ncnn_bin-2.1.15.data/data/bin/sherpa-ncnn"


class Emulator:
    """An installation, and the processor that it is to be.

    Raises:
        UserError: this machine is none that QEMU's package is for.
    """

    def __init__(self, folder: str | Path, cpu: str) -> None:
        check_host()
        self._folder, self._cpu = Path(folder).resolve(), cpu

    def python(self, arguments: Sequence[str | Path], paths: Sequence[Path]) -> str:
        """Run Python; its output, which is shown as it comes.

        Args:
            paths: of modules, besides numpy and ncnn.

        Raises:
            UserError: it failed; with the end of what it printed.
        """
        searched = ":".join(map(str, [self._folder / SITE, *paths]))
        environment = {"PYTHONPATH": searched, "PYTHONDONTWRITEBYTECODE": "1"}
        return self._run(f"{SYSTEM}/usr/bin/python3.11", arguments, environment)

    def sherpa_ncnn(self, arguments: Sequence[str | Path]) -> str:
        """Run sherpa-ncnn's own program; its output.

        Raises:
            UserError: it failed; with the end of what it printed.
        """
        libraries = {"LD_LIBRARY_PATH": str(self._folder / SITE / "sherpa_ncnn" / "lib")}
        return self._run(f"{SITE}/{PROGRAM}", arguments, libraries)

    def _run(
        self, program: str, arguments: Sequence[str | Path], environment: dict[str, str]
    ) -> str:
        command: list[str | Path] = [self._folder / HOST / "usr/bin/qemu-aarch64-static"]
        command += ["-L", self._folder / SYSTEM, "-cpu", self._cpu]
        for name, value in (environment | {"OMP_NUM_THREADS": "1"}).items():
            command += ["-E", f"{name}={value}"]
        command += [self._folder / program, *arguments]
        printed = []
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                sys.stderr.write(line)
                sys.stderr.flush()
                printed.append(line)
        if process.returncode != 0:
            raise UserError(
                f"on an emulated {self._cpu}, {Path(program).name} ended with "
                f"{process.returncode}. The last it printed:\n{_tail(''.join(printed))}"
            )
        return "".join(printed)


def check_host() -> None:
    """
    Raises:
        UserError: this machine is not one that the emulator runs on.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise UserError(
            "targets: an ARM processor is emulated on Linux with an x86-64 processor, and this is "
            f"{platform.system()} on {platform.machine()}. Leave `targets` out of the "
            "configuration here, or run the workflow on such a machine."
        )


def install(folder: str | Path) -> None:
    """Fetch what an emulator takes into a folder, and unpack it there.

    Packages that the folder ``packages`` in it has already are not fetched again.

    Raises:
        UserError: a package cannot be had, or is another than the pinned one; with what to do.
    """
    check_host()
    folder = Path(folder).resolve()  # APT is run in another one
    packages = folder / PACKAGES
    packages.mkdir(parents=True, exist_ok=True)
    debs = _debs(packages)
    wheels = _wheels(packages)
    with scratch(folder) as made:
        for (_, architecture, *_), deb in zip(DEBIAN, debs, strict=True):
            where = made / (HOST if architecture == "amd64" else SYSTEM)
            where.mkdir(exist_ok=True)
            _call(["dpkg-deb", "--extract", deb, where], "unpack a package")
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(made / SITE)
        (made / SITE / PROGRAM).chmod(0o755)
        for name in (HOST, SYSTEM, SITE):
            shutil.rmtree(folder / name, ignore_errors=True)
            (made / name).rename(folder / name)
    versions = {name: version for name, _, version, _ in DEBIAN}
    versions |= {name: version for name, version, _ in WHEELS}
    write_json(folder / "installed.json", versions)


def _debs(packages: Path) -> list[Path]:
    there = _by_digest(packages, "*.deb")
    missing = [x for x in DEBIAN if x[3] not in there]
    if missing:
        with scratch(packages) as root:
            settings = _apt_settings(root)
            # Another source of packages may have none for arm64: what counts is what is found.
            _call(["apt-get", *settings, "update"], "list Debian's packages", may_fail=True)
            names = [f"{name}:{arch}={version}" for name, arch, version, _ in missing]
            _call(["apt-get", *settings, "download", *names], "fetch Debian's packages", root)
            for deb in root.glob("*.deb"):
                deb.rename(packages / deb.name)
        there = _by_digest(packages, "*.deb")
    return [
        _pinned(packages, there, digest, f"{name}_{version}_{arch}.deb")
        for name, arch, version, digest in DEBIAN
    ]


def _apt_settings(root: Path) -> list[str]:
    """APT with lists and a state of its own, for both architectures, and the machine's sources."""
    for name in ("lists/partial", "cache/archives/partial", "state"):
        (root / name).mkdir(parents=True)
    (root / "status").touch()
    settings = {
        "APT::Architecture": "amd64",
        "APT::Architectures": "amd64,arm64",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Dir::State": str(root / "state"),
        "Dir::State::Lists": str(root / "lists"),
        "Dir::State::status": str(root / "status"),
        "Dir::Cache": str(root / "cache"),
    }
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def _wheels(packages: Path) -> list[Path]:
    there = _by_digest(packages, "*.whl")
    missing = [x for x in WHEELS if x[2] not in there]
    if missing:
        with scratch(packages) as root:
            wanted = root / "requirements.txt"
            lines = (f"{name}=={version} --hash=sha256:{x}\n" for name, version, x in missing)
            wanted.write_text("".join(lines))
            # An environment may have been made without pip; the Python that it is of has it.
            python = Path(sys.base_prefix, "bin", "python3")
            command: list[str | Path] = [python, "-m", "pip", "download", "--quiet", "--no-deps"]
            command += ["--only-binary=:all:", "--python-version", "311"]
            command += ["--implementation", "cp", "--disable-pip-version-check"]
            for tag in ("2014", "_2_27", "_2_28"):
                command += ["--platform", f"manylinux{tag}_aarch64"]
            command += ["--dest", root, "--requirement", wanted]
            _call(command, "fetch wheels for aarch64")
            for wheel in root.glob("*.whl"):
                wheel.rename(packages / wheel.name)
        there = _by_digest(packages, "*.whl")
    return [
        _pinned(packages, there, digest, f"{name} {version} for aarch64")
        for name, version, digest in WHEELS
    ]


def _by_digest(packages: Path, pattern: str) -> dict[str, Path]:
    return {fingerprint(path)["sha256"]: path for path in sorted(packages.glob(pattern))}


def _pinned(packages: Path, there: Mapping[str, Path], digest: str, name: str) -> Path:
    if digest not in there:
        raise UserError(
            f"{packages}: no file there is {name} with the SHA-256 {digest}. Expected the package "
            "of Debian 12 or PyPI that is pinned; put it there, or leave `targets` out."
        )
    return there[digest]


def _call(
    command: Sequence[str | Path], what: str, cwd: Path | None = None, may_fail: bool = False
) -> None:
    advice = (
        "Expected Debian 12 or a system with its sources of packages, with apt-get, dpkg and pip, "
        "and a connection. Else put the pinned packages into the folder `packages` by hand, or "
        "leave `targets` out of the configuration."
    )
    try:
        done = subprocess.run(
            command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except FileNotFoundError:
        raise UserError(f"cannot {what}: {command[0]} is not installed. {advice}") from None
    sys.stderr.write(done.stdout)
    if done.returncode != 0 and not may_fail:
        raise UserError(
            f"cannot {what}: `{shlex.join(map(str, command[:1]))} …` ended with {done.returncode}. "
            f"{advice} The last it printed:\n{_tail(done.stdout)}"
        )


def _tail(printed: str) -> str:
    return "\n".join("  " + line for line in printed.splitlines()[-12:])
