//! SPDY/3.1 frames, as far as Kubernetes' streams use them (draft-mbelshe-httpbis-spdy-00):
//! streams that the client opens, data, pings. There is no flow control on either side.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::collections::HashMap;
use std::sync::LazyLock;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;

/// Version and the bit of a control frame.
const CONTROL: u16 = 0x8003;

/// The last frame of a stream's direction.
const FIN: u8 = 1;

/// Bytes before a frame's content.
const HEAD: usize = 8;

/// Longest frame that is taken. Clients send pieces of 32 KiB.
const MAX_FRAME: usize = 1 << 20;

/// Longest header of a stream when it is unpacked.
const MAX_FIELDS: usize = 64 << 10;

/// Bits of a stream's number.
const NUMBER: u32 = 0x7fff_ffff;

/// Names and values that headers are packed with (section 2.6.10.1), each with its
/// length before it.
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding \
    accept-language accept-ranges age allow authorization cache-control connection \
    content-base content-encoding content-language content-length content-location \
    content-md5 content-range content-type date etag expect expires from host if-match \
    if-modified-since if-none-match if-range if-unmodified-since last-modified location \
    max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after \
    server te trailer transfer-encoding upgrade user-agent vary via warning \
    www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie \
    keep-alive origin";

/// What follows them.
const TAIL: &str = "10010120120220520630030230330430530630740240540640740840941041141241341441541\
    6417502504505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad \
    Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not \
    Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 \
    Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,\
    application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,\
    deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = Vec::new();
    for word in WORDS.split(' ') {
        let word = word.replace('_', " ");
        bytes.extend_from_slice(&u32::try_from(word.len()).unwrap_or(0).to_be_bytes());
        bytes.extend_from_slice(word.as_bytes());
    }
    bytes.extend_from_slice(TAIL.as_bytes());
    bytes
});

/// What a peer does that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("the client's frames are not those of SPDY/3.1: {0}")]
pub struct SpdyError(&'static str);

/// A frame of a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// A stream begins.
    Open {
        /// Its number.
        id: u32,
        /// Its header, names in lower case.
        header: HashMap<String, String>,
    },
    /// Bytes of a stream.
    Data {
        /// Its number.
        id: u32,
        /// Content.
        bytes: Vec<u8>,
        /// There is no more.
        is_last: bool,
    },
    /// A stream is given up.
    Reset {
        /// Its number.
        id: u32,
    },
    /// To be sent back.
    Ping {
        /// Its number.
        id: u32,
    },
    /// The connection ends.
    GoAway,
    /// Of no interest.
    Other,
}

/// Frames from bytes.
#[derive(Debug)]
pub struct Decoder {
    bytes: Vec<u8>,
    header: Decompress,
}

impl Decoder {
    /// With what came behind the head of the request.
    pub fn new(bytes: Vec<u8>) -> Self {
        let header = Decompress::new(true);
        Self { bytes, header }
    }

    /// Takes more bytes in.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame.
    pub fn next(&mut self) -> Result<Option<Frame>, SpdyError> {
        let Some((head, rest)) = self.bytes.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let [a, b, c, d, flags, length @ ..] = *head;
        let length = u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
        if length > MAX_FRAME {
            return Err(SpdyError("one is too long"));
        }
        let Some(content) = rest.get(..length) else {
            return Ok(None);
        };
        let content = content.to_vec();
        self.bytes.drain(..HEAD + length);
        if a & 0x80 == 0 {
            return Ok(Some(Frame::Data {
                id: u32::from_be_bytes([a, b, c, d]) & NUMBER,
                bytes: content,
                is_last: flags & FIN != 0,
            }));
        }
        if u16::from_be_bytes([a, b]) != CONTROL {
            return Err(SpdyError("one is of another version"));
        }
        self.control(u16::from_be_bytes([c, d]), &content).map(Some)
    }

    fn control(&mut self, kind: u16, content: &[u8]) -> Result<Frame, SpdyError> {
        let number = || {
            let bytes = content.first_chunk::<4>();
            let bytes = bytes.ok_or(SpdyError("one is too short"))?;
            Ok(u32::from_be_bytes(*bytes))
        };
        Ok(match kind {
            SYN_STREAM => {
                let packed = content.get(10..).ok_or(SpdyError("one is too short"))?;
                Frame::Open {
                    id: number()? & NUMBER,
                    header: fields(&self.unpack(packed)?).ok_or(SpdyError("a header is torn"))?,
                }
            }
            RST_STREAM => Frame::Reset {
                id: number()? & NUMBER,
            },
            PING => Frame::Ping { id: number()? },
            GOAWAY => Frame::GoAway,
            _ => Frame::Other,
        })
    }

    /// The headers of a connection are one packed stream.
    fn unpack(&mut self, mut packed: &[u8]) -> Result<Vec<u8>, SpdyError> {
        let mut out = Vec::with_capacity(1024);
        loop {
            let before = (self.header.total_in(), out.len());
            let done = self
                .header
                .decompress_vec(packed, &mut out, FlushDecompress::Sync);
            let used = usize::try_from(self.header.total_in() - before.0).unwrap_or(0);
            packed = &packed[used..];
            match done {
                Err(error) if error.needs_dictionary().is_some() => {
                    let known = self.header.set_dictionary(&DICTIONARY);
                    known.map_err(|_| SpdyError("a header is packed with other words"))?;
                    continue;
                }
                Err(_) => return Err(SpdyError("a header cannot be unpacked")),
                Ok(Status::StreamEnd) => return Ok(out),
                Ok(_) => {}
            }
            if out.len() > MAX_FIELDS {
                return Err(SpdyError("a header is too long"));
            }
            if out.len() == out.capacity() {
                out.reserve(1024);
            } else if packed.is_empty() || (used == 0 && out.len() == before.1) {
                return Ok(out);
            }
        }
    }
}

/// Names and values: their number, then each with its length before it.
fn fields(mut bytes: &[u8]) -> Option<HashMap<String, String>> {
    fn number(bytes: &mut &[u8]) -> Option<usize> {
        let (number, rest) = bytes.split_first_chunk::<4>()?;
        *bytes = rest;
        usize::try_from(u32::from_be_bytes(*number)).ok()
    }
    fn text(bytes: &mut &[u8]) -> Option<String> {
        let length = number(bytes)?;
        let (text, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        Some(String::from_utf8_lossy(text).into_owned())
    }
    let count = number(&mut bytes)?;
    let mut found = HashMap::new();
    for _ in 0..count {
        let name = text(&mut bytes)?.to_ascii_lowercase();
        found.insert(name, text(&mut bytes)?);
    }
    Some(found)
}

/// Bytes from frames.
#[derive(Debug)]
pub struct Encoder {
    header: Compress,
}

impl Encoder {
    /// For a new connection.
    pub fn new() -> Result<Self, SpdyError> {
        let mut header = Compress::new(Compression::fast(), true);
        let known = header.set_dictionary(&DICTIONARY);
        known.map_err(|_| SpdyError("ours cannot be packed"))?;
        Ok(Self { header })
    }

    /// A stream is taken.
    pub fn reply(&mut self, id: u32) -> Result<Vec<u8>, SpdyError> {
        // No fields.
        let mut packed = Vec::with_capacity(64);
        let flush = FlushCompress::Sync;
        let done = self
            .header
            .compress_vec(&0u32.to_be_bytes(), &mut packed, flush);
        done.map_err(|_| SpdyError("ours cannot be packed"))?;
        let content = [&id.to_be_bytes()[..], &packed].concat();
        Ok(control(SYN_REPLY, &content))
    }

    /// Bytes of a stream.
    pub fn data(id: u32, bytes: &[u8], is_last: bool) -> Vec<u8> {
        let mut frame = (id & NUMBER).to_be_bytes().to_vec();
        frame.push(if is_last { FIN } else { 0 });
        frame.extend_from_slice(&length(bytes));
        frame.extend_from_slice(bytes);
        frame
    }

    /// The answer to a ping.
    pub fn ping(id: u32) -> Vec<u8> {
        control(PING, &id.to_be_bytes())
    }
}

fn control(kind: u16, content: &[u8]) -> Vec<u8> {
    let mut frame = CONTROL.to_be_bytes().to_vec();
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.push(0);
    frame.extend_from_slice(&length(content));
    frame.extend_from_slice(content);
    frame
}

fn length(content: &[u8]) -> [u8; 3] {
    let [_, a, b, c] = u32::try_from(content.len()).unwrap_or(0).to_be_bytes();
    [a, b, c]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client sends that opens streams with these headers.
    fn opened(headers: &[&[(&str, &str)]]) -> Vec<u8> {
        let mut packer = Encoder::new().unwrap().header;
        let mut bytes = Vec::new();
        for (at, header) in (0u32..).zip(headers) {
            let mut plain = u32::try_from(header.len()).unwrap().to_be_bytes().to_vec();
            for text in header.iter().flat_map(|(name, value)| [name, value]) {
                plain.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
                plain.extend_from_slice(text.as_bytes());
            }
            let mut packed = Vec::with_capacity(4096);
            packer
                .compress_vec(&plain, &mut packed, FlushCompress::Sync)
                .unwrap();
            let id = 2 * at + 1;
            let content = [&id.to_be_bytes()[..], &[0; 6], &packed].concat();
            bytes.extend(control(SYN_STREAM, &content));
        }
        bytes
    }

    #[test]
    fn the_words_are_those_of_the_draft() {
        let sum = |(a, b): (u32, u32), byte: &u8| {
            let a = (a + u32::from(*byte)) % 65521;
            (a, (b + a) % 65521)
        };
        let (a, b) = DICTIONARY.iter().fold((1, 0), sum);
        assert_eq!((DICTIONARY.len(), (b << 16) | a), (1423, 0xe3c6_a7c2));
    }

    #[test]
    fn streams_and_their_bytes_come_whole_however_they_are_cut() {
        let mut bytes = opened(&[
            &[("streamtype", "error")],
            &[("streamtype", "data"), ("port", "80"), ("Requestid", "0")],
        ]);
        bytes.extend(Encoder::data(3, b"hello", true));
        bytes.extend(Encoder::ping(7));
        for size in [1, 7, bytes.len()] {
            let mut decoder = Decoder::new(Vec::new());
            let mut frames = Vec::new();
            for piece in bytes.chunks(size) {
                decoder.feed(piece);
                while let Some(frame) = decoder.next().unwrap() {
                    frames.push(frame);
                }
            }
            let Frame::Open { id: 3, header } = &frames[1] else {
                panic!("{frames:?}");
            };
            assert_eq!(
                (header["port"].as_str(), header["requestid"].as_str()),
                ("80", "0")
            );
            let data = Frame::Data {
                id: 3,
                bytes: b"hello".to_vec(),
                is_last: true,
            };
            assert_eq!(frames[2..], [data, Frame::Ping { id: 7 }]);
        }
    }

    #[test]
    fn rubbish_is_an_error_and_nothing_worse() {
        let mut long = Decoder::new(vec![0, 0, 0, 1, 0, 0xff, 0xff, 0xff]);
        assert!(long.next().is_err());
        let mut other = Decoder::new(vec![0x80, 2, 0, 1, 0, 0, 0, 0]);
        assert!(other.next().is_err());
        let torn = control(SYN_STREAM, &[0; 14]);
        assert!(Decoder::new(torn).next().is_err());
        assert!(fields(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]).is_none());
    }
}
