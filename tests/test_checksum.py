"""The Internet checksum: as RFC 1071 defines it, at every alignment and length."""

from __future__ import annotations

import ctypes
import os
import random
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# lwIP's own, which the port's takes the place of, beside it.
SOURCE = """
#include "lwip/def.h"
u16_t lwip_standard_chksum(const void *data, int length);
#undef LWIP_CHKSUM
#define LWIP_CHKSUM lwip_standard_chksum
#define LWIP_CHKSUM_ALGORITHM 2
#include "../lwip/src/core/inet_chksum.c"
u16_t standard(const void *data, int length) { return lwip_standard_chksum(data, length); }
u16_t lwip_htons(u16_t n) { return (u16_t)(n << 8 | n >> 8); }
u32_t lwip_htonl(u32_t n) { return __builtin_bswap32(n); }
u16_t pbuf_copy_partial(const struct pbuf *p, void *to, u16_t length, u16_t at) { return 0; }
void lwipy_assertion_failed(const char *text, const char *file, int line) { __builtin_trap(); }
"""

Sum = Callable[[int, int], int]


@pytest.fixture(scope="module")
def sums(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sum, Sum]:
    """The port's and lwIP's, each of an address and a length."""
    folder = tmp_path_factory.mktemp("sums")
    (folder / "standard.c").write_text(SOURCE.replace("../lwip", str(ROOT / "lwip")))
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
    files = [str(folder / "standard.c"), str(ROOT / "csrc" / "checksum.c")]
    options = ["-O2", "-shared", "-fPIC", f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'lwip/src/include'}"]
    subprocess.run([*compiler, *options, *files, "-o", str(folder / "sums.so")], check=True)
    library = ctypes.CDLL(str(folder / "sums.so"))
    for function in (library.lwipy_checksum, library.standard):
        function.argtypes = [ctypes.c_void_p, ctypes.c_int]
        function.restype = ctypes.c_uint16
    return library.lwipy_checksum, library.standard


def test_it_is_lwips_at_every_alignment_and_length(sums: tuple[Sum, Sum]) -> None:
    ours, standard = sums
    data = ctypes.create_string_buffer(random.Random(1).randbytes(400))
    start = ctypes.addressof(data)
    for alignment in range(33):
        for length in range(300):
            assert ours(start + alignment, length) == standard(start + alignment, length), (alignment, length)


@pytest.mark.parametrize("byte", [0, 0xFF, 0x80], ids=hex)
@pytest.mark.parametrize("length", [1460, 9000, 65534, 65535])
def test_no_carry_is_lost(sums: tuple[Sum, Sum], byte: int, length: int) -> None:
    ours, standard = sums
    data = ctypes.create_string_buffer(bytes([byte]) * length)
    assert ours(ctypes.addressof(data), length) == standard(ctypes.addressof(data), length)


def test_a_sum_that_was_put_in_makes_all_bits_one(sums: tuple[Sum, Sum]) -> None:
    ours, _ = sums
    content = random.Random(2).randbytes(1480)
    without = ctypes.create_string_buffer(content[:16] + b"\0\0" + content[18:])
    sum_ = 0xFFFF ^ ours(ctypes.addressof(without), 1480)
    summed = ctypes.create_string_buffer(content[:16] + sum_.to_bytes(2, sys.byteorder) + content[18:])
    assert ours(ctypes.addressof(summed), 1480) == 0xFFFF
