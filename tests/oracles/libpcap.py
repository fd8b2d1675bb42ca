"""libpcap itself, by ctypes: what a filter expression means on packets of a savefile, and what it refuses."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import os
import struct

ORACLE = "1.10"
"""The versions of libpcap whose answers the tests expect."""

_ERROR_BUFFER_SIZE = 256
_LITTLE_ENDIAN, _BIG_ENDIAN = "<", ">"


class RefusedError(Exception):
    """libpcap refuses the expression; ``str`` is its message."""


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_ushort),
        ("if_true", ctypes.c_ubyte),
        ("if_false", ctypes.c_ubyte),
        ("k", ctypes.c_uint32),
    )


class _Code(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint), ("instructions", ctypes.POINTER(_Instruction)))


@functools.cache
def _library() -> ctypes.CDLL | None:
    name = ctypes.util.find_library("pcap")
    if name is None:
        return None
    library = ctypes.CDLL(name)
    handle, code = ctypes.c_void_p, ctypes.POINTER(_Code)
    library.pcap_lib_version.restype = ctypes.c_char_p
    library.pcap_open_offline.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
    library.pcap_open_offline.restype = handle
    library.pcap_geterr.argtypes = (handle,)
    library.pcap_geterr.restype = ctypes.c_char_p
    library.pcap_compile.argtypes = (handle, code, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint32)
    library.pcap_freecode.argtypes = (code,)
    library.bpf_filter.argtypes = (
        ctypes.POINTER(_Instruction),
        ctypes.c_char_p,
        ctypes.c_uint,
        ctypes.c_uint,
    )
    library.bpf_filter.restype = ctypes.c_uint
    return library


def missing() -> str | None:
    """Why there is nothing to compare with, as a reason to skip; None where libpcap is there."""
    library = _library()
    if library is None:
        return "needs libpcap: apt-get install -y libpcap0.8"
    version: str = library.pcap_lib_version().decode().split()[2]
    return None if version.startswith(ORACLE + ".") else f"needs libpcap {ORACLE}, found {version}"


class Filter:
    """A compiled expression.

    ``instructions`` are the code as libpcap has it: (code, jump if true, jump if false, k).
    """

    def __init__(self, library: ctypes.CDLL, instructions: list[tuple[int, int, int, int]]) -> None:
        self.instructions = instructions
        self._library = library
        self._program = _program(instructions)

    def matches(self, packet: bytes, wirelen: int | None = None) -> bool:
        """Whether it accepts a packet that was captured as these octets of ``wirelen`` (None: all)."""
        caplen = len(packet)
        length = caplen if wirelen is None else wirelen
        return bool(self._library.bpf_filter(self._program, packet, length, caplen))

    @property
    def reads_registers(self) -> bool:
        """Whether it reads registers, which may be set or not."""
        return _reads_registers(self.instructions)

    def breaks_off(self, packet: bytes, wirelen: int | None = None) -> bool:
        """Whether it rejects the packet by a load outside of it, or a division by zero."""
        accepting = [(*each[:3], 1) if each[0] == _RETURN else each for each in self.instructions]
        return not Filter(self._library, accepting).matches(packet, wirelen)


_STORE, _RETURN = 0x02, 0x06
_LOAD_REGISTER = (0x60, 0x61)
_REGISTERS = 16


def _reads_registers(instructions: list[tuple[int, int, int, int]]) -> bool:
    return any(code in _LOAD_REGISTER for code, *_ in instructions)


def _program(instructions: list[tuple[int, int, int, int]]) -> ctypes.Array[_Instruction]:
    """The code as the interpreter takes it.

    libpcap 1.10.3 leaves registers as the stack has them, later releases set them to 0 as this does.
    """
    cleared = [(_STORE, 0, 0, register) for register in range(_REGISTERS)]
    program = [*cleared, *instructions] if _reads_registers(instructions) else instructions
    return (_Instruction * len(program))(*(_Instruction(*each) for each in program))


@functools.lru_cache(maxsize=64)
def _savefile(dlt: int, snaplen: int, swapped: bool) -> int:
    """A handle of an empty savefile, which stays open."""
    library = _library()
    assert library is not None, missing()
    order = _BIG_ENDIAN if swapped else _LITTLE_ENDIAN
    header = struct.pack(order + "IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, snaplen, dlt)
    reading, writing = os.pipe()
    try:
        os.write(writing, header)
        os.close(writing)
        error = ctypes.create_string_buffer(_ERROR_BUFFER_SIZE)
        handle: int | None = library.pcap_open_offline(f"/dev/fd/{reading}".encode(), error)
    finally:
        os.close(reading)
    assert handle, error.value
    return handle


def compile(
    text: str,
    *,
    dlt: int = 1,
    snaplen: int = 262144,
    netmask: int = 0,
    optimize: bool = False,
    swapped: bool = False,
) -> Filter:
    """Compile as ``tcpdump -r`` does (``optimize`` False: with -O) for a savefile of that link type.

    ``dlt`` is the number in the savefile (LINKTYPE_); ``swapped``: the savefile is big-endian.  Raises
    :class:`RefusedError`.
    """
    library = _library()
    assert library is not None, missing()
    handle = _savefile(dlt, snaplen, swapped)
    code = _Code()
    octets = text.encode(errors="surrogateescape")
    if library.pcap_compile(handle, ctypes.byref(code), octets, int(optimize), netmask) != 0:
        raise RefusedError(library.pcap_geterr(handle).decode(errors="surrogateescape"))
    raw = code.instructions[: code.length]
    instructions = [(each.code, each.if_true, each.if_false, each.k) for each in raw]
    library.pcap_freecode(ctypes.byref(code))
    return Filter(library, instructions)
