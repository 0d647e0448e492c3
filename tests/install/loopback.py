"""Turns the loopback device of a new network namespace on. Not every system has `ip`."""

import fcntl
import socket
import struct

SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 1

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
    request = struct.pack("16sH14x", b"lo", 0)
    flags = struct.unpack("16sH14x", fcntl.ioctl(device, SIOCGIFFLAGS, request))[1]
    fcntl.ioctl(device, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))
