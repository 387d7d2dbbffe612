"""A bare HTTP/2 client for the sandbox's self test.

It writes frames by hand, so that it can break rules on purpose (too many
streams, a header twice, a cut in the middle), which no library lets one do.
Header blocks are sent as plain literals; answers are decoded by libnghttp2's
HPACK inflater through ctypes.  Every wait has a deadline.
"""
import ctypes
import ctypes.util
import socket
import ssl
import struct
import time

DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 3, 4
DEADLINE_S = 10

_lib = ctypes.CDLL(ctypes.util.find_library("nghttp2") or "libnghttp2.so.14")


class _Nv(ctypes.Structure):
    _fields_ = [("name", ctypes.c_void_p), ("value", ctypes.c_void_p),
                ("namelen", ctypes.c_size_t), ("valuelen", ctypes.c_size_t),
                ("flags", ctypes.c_uint8)]


_lib.nghttp2_hd_inflate_hd2.restype = ctypes.c_ssize_t
_lib.nghttp2_hd_inflate_hd2.argtypes = [
    ctypes.c_void_p, ctypes.POINTER(_Nv), ctypes.POINTER(ctypes.c_int),
    ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
_lib.nghttp2_hd_inflate_end_headers.argtypes = [ctypes.c_void_p]


class Inflater:
    def __init__(self):
        self.ptr = ctypes.c_void_p()
        if _lib.nghttp2_hd_inflate_new(ctypes.byref(self.ptr)) != 0:
            raise RuntimeError("no inflater")

    def block(self, data):
        """Decodes one whole header block."""
        out = []
        while True:
            nv, flags = _Nv(), ctypes.c_int(0)
            used = _lib.nghttp2_hd_inflate_hd2(self.ptr, ctypes.byref(nv), ctypes.byref(flags),
                                               data, len(data), 1)
            if used < 0:
                raise RuntimeError("bad header block")
            data = data[used:]
            if flags.value & 2:
                out.append((ctypes.string_at(nv.name, nv.namelen).decode(),
                            ctypes.string_at(nv.value, nv.valuelen).decode()))
            if flags.value & 1:
                _lib.nghttp2_hd_inflate_end_headers(self.ptr)
                return out


def _hpack_int(value):
    if value < 127:
        return bytes([value])
    out, value = b"\x7f", value - 127
    while value >= 128:
        out, value = out + bytes([value % 128 + 128]), value // 128
    return out + bytes([value])


def encode(headers):
    """Literals without indexing, no Huffman coding."""
    out = b""
    for name, value in headers:
        name, value = name.encode(), value.encode()
        out += b"\0" + _hpack_int(len(name)) + name + _hpack_int(len(value)) + value
    return out


class Stream:
    def __init__(self):
        self.headers, self.body, self.ended, self.rst = {}, b"", False, None

    @property
    def status(self):
        return self.headers.get(":status")

    @property
    def done(self):
        return self.ended or self.rst is not None


class Client:
    def __init__(self, port, ca, cert=None, key=None, alpn=("h2",), ack=True, hostname="localhost"):
        context = ssl.create_default_context(cafile=ca)
        context.set_alpn_protocols(list(alpn))
        if cert:
            context.load_cert_chain(cert, key)
        raw = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        self.sock = context.wrap_socket(raw, server_hostname=hostname)
        self.alpn = self.sock.selected_alpn_protocol()
        self.inflater, self.buffer = Inflater(), b""
        self.streams, self.settings, self.settings_seen = {}, {}, 0
        self.goaway, self.closed, self.pongs, self.next_id = None, False, 0, 1
        self.ack = ack
        self.sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self.frame(SETTINGS, 0, 0, b""))
        self.until(lambda: self.settings_seen > 0)

    def frame(self, kind, flags, stream, payload):
        return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + \
            struct.pack(">I", stream) + payload

    def request(self, headers, body=b"", end=True):
        """Sends a request, its body in one DATA frame; returns the Stream."""
        ident = self.next_id
        self.next_id += 2
        out = self.frame(HEADERS, END_HEADERS | (END_STREAM if end and not body else 0), ident,
                         encode(headers))
        if body:
            out += self.frames_of(ident, body, end)
        self.streams[ident] = stream = Stream()
        stream.id = ident
        self.send(out)
        return stream

    def frames_of(self, ident, body, end):
        out = b""
        for pos in range(0, len(body), 16384):
            last = pos + 16384 >= len(body)
            out += self.frame(DATA, END_STREAM if last and end else 0, ident,
                              body[pos:pos + 16384])
        return out

    def send(self, data):
        try:
            self.sock.sendall(data)
        except OSError:
            self.closed = True

    def ping(self):
        """A round trip: what the server had to say before has been read."""
        for _ in range(2):
            want = self.pongs + 1
            self.send(self.frame(PING, 0, 0, b"12345678"))
            self.until(lambda: self.pongs >= want or self.closed)

    def until(self, condition):
        """Reads frames until the condition holds; False after the deadline."""
        end = time.monotonic() + DEADLINE_S
        while not condition():
            if self.closed or time.monotonic() > end or not self.read(end):
                return condition()
        return True

    def read(self, end):
        while len(self.buffer) < 9 or len(self.buffer) < 9 + self.length():
            self.sock.settimeout(max(0.01, end - time.monotonic()))
            try:
                data = self.sock.recv(65536)
            except (TimeoutError, socket.timeout):
                return False
            except OSError:
                data = b""
            if not data:
                self.closed = True
                return False
            self.buffer += data
        size = 9 + self.length()
        frame, self.buffer = self.buffer[:size], self.buffer[size:]
        self.take(frame[3], frame[4], struct.unpack(">I", frame[5:9])[0], frame[9:])
        return True

    def length(self):
        return int.from_bytes(self.buffer[:3], "big")

    def take(self, kind, flags, ident, payload):
        stream = self.streams.get(ident, Stream())
        if kind == SETTINGS and not flags & ACK:
            for pos in range(0, len(payload), 6):
                key, value = struct.unpack(">HI", payload[pos:pos + 6])
                self.settings[key] = value
            self.settings_seen += 1
            if self.ack:
                self.send(self.frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and flags & ACK:
            self.pongs += 1
        elif kind == HEADERS:
            stream.headers = dict(self.inflater.block(payload))
            stream.ended = bool(flags & END_STREAM)
        elif kind == DATA:
            stream.body += payload
            stream.ended = bool(flags & END_STREAM)
        elif kind == RST:
            stream.rst = struct.unpack(">I", payload)[0]
        elif kind == GOAWAY:
            last, code = struct.unpack(">II", payload[:8])
            self.goaway = (last, code, payload[8:].decode())

    def wait(self, stream):
        self.until(lambda: stream.done)
        return stream

    def close(self):
        self.sock.close()
        self.closed = True
