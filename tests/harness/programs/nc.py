"""Stands in for BusyBox's `nc -w SECONDS HOST PORT`, which the broker's image has."""

import socket
import sys

seconds, host, port = sys.argv[2:]
with socket.create_connection((host, int(port)), timeout=float(seconds)) as connection:
    connection.sendall(sys.stdin.buffer.read())
    connection.shutdown(socket.SHUT_WR)
    while data := connection.recv(65536):
        sys.stdout.buffer.write(data)
