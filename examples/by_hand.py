"""Frames by hand: what an emulator's host code does. The stack answers a guest's ping, frame by frame."""

import struct

import lwipy

GUEST, HOST = "02:00:00:00:00:09", "02:00:00:00:00:01"


def ethernet(payload: bytes, kind: int) -> bytes:
    return bytes.fromhex((HOST + GUEST).replace(":", "")) + struct.pack("!H", kind) + payload


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


stack = lwipy.Stack()
nic = stack.add_interface(mac=HOST, ipv4="10.0.0.1/24")
nic.add_neighbour("10.0.0.9", GUEST)

echo = struct.pack("!BBHHH", 8, 0, 0, 1, 1) + b"0123456789abcdef"
echo = echo[:2] + struct.pack("!H", checksum(echo)) + echo[4:]
header = struct.pack("!BBHHHBBH4B4B", 0x45, 0, 20 + len(echo), 1, 0, 64, 1, 0, 10, 0, 0, 9, 10, 0, 0, 1)
header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]

nic.frames()  # the gratuitous ARP of the beginning
nic.receive(ethernet(header + echo, 0x0800))
(reply,) = nic.frames()
print("to the guest:", len(reply), "bytes, ICMP type", reply[34])
print("next deadline in", stack.poll(), "seconds")
