//! Gzip, zstd or nothing, told apart by the first bytes, and bounds on what comes out.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::layer::Limits;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// 0x184D2A50 to 0x184D2A5F.
const SKIPPED: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];

/// Ways to pack a file that are not read, by their first bytes.
const OTHERS: [(&[u8], &str); 2] = [
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz"),
    (b"BZh", "bzip2"),
];

/// How a file is packed that is not read, if it is.
pub(super) fn other(source: &mut impl BufRead) -> io::Result<Option<&'static str>> {
    let head = source.fill_buf()?;
    let found = OTHERS.iter().find(|(magic, _)| head.starts_with(magic));
    Ok(found.map(|(_, how)| *how))
}

/// How a layer is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    pub(super) fn of(source: &mut impl BufRead) -> io::Result<Self> {
        let head = source.fill_buf()?;
        // A frame to be skipped may come first (RFC 8878, 3.1.2): pzstd writes such.
        let is_skipped =
            head.len() >= 4 && head[0] & 0xf0 == SKIPPED[0] && head[1..4] == SKIPPED[1..];
        Ok(if head.starts_with(GZIP) {
            Compression::Gzip
        } else if head.starts_with(ZSTD) || is_skipped {
            Compression::Zstd
        } else {
            Compression::None
        })
    }

    pub(super) fn decoder<'a>(self, source: impl BufRead + 'a) -> Box<dyn Read + 'a> {
        match self {
            Compression::None => Box::new(source),
            Compression::Gzip => Box::new(MultiGzDecoder::new(source)),
            Compression::Zstd => Box::new(Zstd {
                source,
                decoder: FrameDecoder::new(),
                in_frame: false,
            }),
        }
    }
}

/// Zstandard, any number of frames. The decoder bounds the window to 128 MiB, which is the most
/// that the `zstd` tool uses without being told to.
struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.in_frame {
                if self.source.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                match self.decoder.reset(&mut self.source) {
                    Ok(()) => self.in_frame = true,
                    Err(FrameDecoderError::ReadFrameHeaderError(
                        ReadFrameHeaderError::SkipFrame { length, .. },
                    )) => {
                        let skipped = (&mut self.source).take(u64::from(length));
                        io::copy(&mut { skipped }, &mut io::sink())?;
                        continue;
                    }
                    Err(error) => return Err(io::Error::other(error)),
                }
            }
            let read = self.decoder.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            if self.decoder.is_finished() {
                self.in_frame = false;
                continue;
            }
            let amount = BlockDecodingStrategy::UptoBytes(buffer.len());
            self.decoder
                .decode_blocks(&mut self.source, amount)
                .map_err(io::Error::other)?;
        }
    }
}

/// A layer, or an image, expands beyond its bounds.
#[derive(Debug, thiserror::Error)]
enum Bomb {
    #[error("the layer's tar has more than {limit} bytes")]
    Total { limit: u64 },
    #[error("the layer expands more than {limit}-fold")]
    Ratio { limit: u64 },
    #[error("the tars of the image's layers have more than {limit} bytes")]
    Image { limit: u64 },
}

/// Whether a stream was stopped because it expands beyond its bounds.
pub(super) fn is_bomb(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Bomb>())
}

/// Stops a stream that expands beyond its bounds.
pub(super) struct Bounded<'a, R> {
    source: R,
    /// Compressed bytes read so far.
    packed: &'a Cell<u64>,
    unpacked: u64,
    /// The same of all layers of the image.
    image: Option<&'a AtomicU64>,
    limits: &'a Limits,
}

impl<'a, R: Read> Bounded<'a, R> {
    pub(super) fn new(source: R, packed: &'a Cell<u64>, limits: &'a Limits) -> Self {
        Bounded {
            source,
            packed,
            unpacked: 0,
            image: None,
            limits,
        }
    }

    /// Counts for an image as well, whose other layers count at the same time.
    pub(super) fn of_image(self, unpacked: &'a AtomicU64) -> Self {
        Bounded {
            image: Some(unpacked),
            ..self
        }
    }
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.unpacked += read as u64;
        let (total, ratio) = (self.limits.max_tar_bytes, self.limits.max_ratio);
        if self.unpacked > total {
            return Err(io::Error::other(Bomb::Total { limit: total }));
        }
        if let Some(image) = self.image {
            let sum = image.fetch_add(read as u64, Ordering::Relaxed) + read as u64;
            let limit = self.limits.max_image_bytes;
            if sum > limit {
                return Err(io::Error::other(Bomb::Image { limit }));
            }
        }
        let most = self
            .packed
            .get()
            .saturating_mul(ratio)
            .max(self.limits.ratio_free_bytes);
        if self.unpacked > most {
            return Err(io::Error::other(Bomb::Ratio { limit: ratio }));
        }
        Ok(read)
    }
}
