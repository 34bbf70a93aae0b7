"""A client of SPDY/3.1 as Kubernetes' clients are: opens streams, prints what comes as JSON.

    spdy.py URL PROTOCOL INPUT TYPE…     a stream of each type; INPUT goes to stdin or data
    spdy.py URL PROTOCOL INPUT PORT      an error and a data stream for a port
"""

import json
import socket
import struct
import sys
import urllib.parse
import zlib

# draft-mbelshe-httpbis-spdy-00, section 2.6.10.1; its sum is checked below.
WORDS = """options head post put delete trace accept accept-charset accept-encoding accept-language
accept-ranges age allow authorization cache-control connection content-base content-encoding
content-language content-length content-location content-md5 content-range content-type date etag
expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since
last-modified location max-forwards pragma proxy-authenticate proxy-authorization range referer
retry-after server te trailer transfer-encoding upgrade user-agent vary via warning www-authenticate
method get status 200_OK version HTTP/1.1 url public set-cookie keep-alive origin"""
TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request"
    "401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented"
    "503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 "
    "Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,"
    "application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age="
    "gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.")
DICTIONARY = b"".join(
    struct.pack(">I", len(word)) + word.replace("_", " ").encode() for word in WORDS.split()) + TAIL.encode()
assert zlib.adler32(DICTIONARY) == 0xE3C6A7C2
FIN = 1


class Client:
    """One connection."""

    def __init__(self, url, protocol):
        parts = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), 120)
        head = (f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: Upgrade\r\n"
                f"Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {protocol}\r\n\r\n")
        self.socket.sendall(head.encode())
        self.file = self.socket.makefile("rb")
        status = self.file.readline()
        assert b" 101 " in status, status
        while self.file.readline().strip():
            pass
        self.packer = zlib.compressobj(zdict=DICTIONARY)
        self.unpacker = zlib.decompressobj(zdict=DICTIONARY)
        self.last = -1

    def open(self, header):
        """Opens a stream with that header; its number."""
        self.last += 2
        plain = struct.pack(">I", len(header))
        for text in (text for pair in header.items() for text in pair):
            plain += struct.pack(">I", len(text)) + text.encode()
        packed = self.packer.compress(plain) + self.packer.flush(zlib.Z_SYNC_FLUSH)
        content = struct.pack(">IIH", self.last, 0, 0) + packed
        self.socket.sendall(struct.pack(">HHI", 0x8003, 1, len(content)) + content)
        return self.last

    def data(self, stream, content, flags=0):
        """Sends bytes of a stream."""
        self.socket.sendall(struct.pack(">II", stream, flags << 24 | len(content)) + content)

    def hear(self):
        """All that comes, by stream, until the streams or the connection have ended."""
        heard, ended = {}, set()
        while len(ended) < (self.last + 1) // 2 and (head := self.file.read(8)):
            first, rest = struct.unpack(">II", head)
            content = self.file.read(rest & 0xFFFFFF)
            if first >> 31:
                if first & 0xFFFF == 2:
                    assert self.unpacker.decompress(content[4:]) == b"\0\0\0\0"
                continue
            heard[first] = heard.get(first, b"") + content
            if rest >> 24 & FIN:
                ended.add(first)
        return heard


def main():
    url, protocol, said, *kinds = sys.argv[1:]
    client = Client(url, protocol)
    if kinds[0].isdigit():
        pairs = [(kind, {"streamtype": kind, "port": kinds[0], "requestid": "0"}) for kind in ("error", "data")]
    else:
        pairs = [(kind, {"streamtype": kind}) for kind in kinds]
    streams = {client.open(header): kind for kind, header in pairs}
    for number, kind in streams.items():
        if kind in ("stdin", "data"):
            client.data(number, said.encode(), FIN if kind == "stdin" else 0)
    print(json.dumps({streams[number]: text.decode() for number, text in client.hear().items()}))


main()
