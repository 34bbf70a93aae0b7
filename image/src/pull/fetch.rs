//! A blob as a stream: first what an earlier pull has left of it, then what the registry sends,
//! over as many connections as it takes. What comes is kept in a file on the way.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use super::PullProgress;
use super::layers::Stop;
use crate::load::LoadError;
use crate::load::candidate::Expected;
use crate::registry::{Blob, Client, RegistryError};
use crate::store::{Ingest, StoreError};

/// Connections that break one after the other without a byte in between.
const MAX_ATTEMPTS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Between two looks at whether to go on waiting.
const LOOK: Duration = Duration::from_millis(50);

/// A blob as a stream.
pub(super) struct Fetch<'a> {
    client: &'a Client,
    blob: Expected,
    ingest: &'a Ingest,
    stop: Stop<'a>,
    told: Sender<PullProgress>,
    /// Bytes that the file has.
    kept: u64,
    /// Bytes that were read.
    at: u64,
    body: Option<Blob>,
    attempts: u32,
    /// Bytes that came over the network.
    pub fetched: u64,
    /// Who has given the last of it.
    pub host: Option<String>,
    failure: Option<LoadError>,
}

impl<'a> Fetch<'a> {
    pub(super) fn new(
        client: &'a Client,
        blob: Expected,
        ingest: &'a Ingest,
        stop: Stop<'a>,
        told: Sender<PullProgress>,
    ) -> Result<Self, StoreError> {
        let file = &ingest.file;
        let metadata = file.metadata();
        let mut kept = metadata
            .map_err(StoreError::io("look at", &ingest.path))?
            .len();
        if kept > blob.size {
            file.set_len(0)
                .map_err(StoreError::io("shorten", &ingest.path))?;
            kept = 0;
        }
        Ok(Fetch {
            client,
            blob,
            ingest,
            stop,
            told,
            kept,
            at: 0,
            body: None,
            attempts: 0,
            fetched: 0,
            host: None,
            failure: None,
        })
    }

    /// Why the stream ended early, if it did.
    pub(super) fn failure(&mut self) -> Option<LoadError> {
        self.failure.take()
    }

    /// Whether it began with what an earlier pull has left.
    pub(super) fn was_resumed(&self) -> bool {
        self.fetched < self.blob.size
    }

    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, LoadError> {
        if self.at < self.kept {
            return self.read_kept(buffer);
        }
        loop {
            if self.at >= self.blob.size || self.stop.is_set() {
                return Ok(0);
            }
            let left = usize::try_from(self.blob.size - self.at).unwrap_or(usize::MAX);
            let space = buffer.len().min(left);
            let read = match &mut self.body {
                Some(body) => body.reader.read(&mut buffer[..space]),
                None => {
                    self.open()?;
                    continue;
                }
            };
            match read {
                Ok(0) => self.broke(io::ErrorKind::UnexpectedEof.into())?,
                Ok(read) => {
                    self.keep(&buffer[..read])?;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.broke(error)?,
            }
        }
    }

    fn read_kept(&mut self, buffer: &mut [u8]) -> Result<usize, LoadError> {
        let left = usize::try_from(self.kept - self.at).unwrap_or(usize::MAX);
        let space = buffer.len().min(left);
        let file: &File = &self.ingest.file;
        let read = file
            .read_at(&mut buffer[..space], self.at)
            .map_err(StoreError::io("read", &self.ingest.path))?;
        if read == 0 {
            // Somebody has made it shorter; the rest is asked for.
            self.kept = self.at;
            return self.next(buffer);
        }
        self.at += read as u64;
        Ok(read)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), LoadError> {
        let file: &File = &self.ingest.file;
        file.write_all_at(bytes, self.at)
            .map_err(StoreError::io("write", &self.ingest.path))?;
        self.at += bytes.len() as u64;
        self.kept = self.at;
        self.fetched += bytes.len() as u64;
        self.attempts = 0;
        Ok(())
    }

    /// Asks for the rest.
    fn open(&mut self) -> Result<(), LoadError> {
        let blob = match self.client.blob(self.blob.digest, self.at) {
            Ok(blob) => blob,
            Err(error)
                if error.is_passing() && !error.is_for_later() && self.attempts < MAX_ATTEMPTS =>
            {
                return self.wait(error.to_string());
            }
            Err(error) => return Err(error.into()),
        };
        self.host = Some(blob.host.clone());
        if let Some(actual) = blob.total.filter(|total| *total != self.blob.size) {
            let Expected { digest, size } = self.blob;
            return Err(LoadError::WrongSize {
                digest,
                expected: size,
                actual,
            });
        }
        let body = self.body.insert(blob);
        // A registry that knows no ranges begins anew.
        let Some(mut surplus) = self.at.checked_sub(body.from) else {
            return self.broke(io::Error::other(
                "it sent another part than it was asked for",
            ));
        };
        let mut nothing = [0; 32 << 10];
        while surplus > 0 {
            let space = nothing
                .len()
                .min(usize::try_from(surplus).unwrap_or(usize::MAX));
            match body.reader.read(&mut nothing[..space]) {
                Ok(0) => return self.broke(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => surplus -= read as u64,
                Err(error) => return self.broke(error),
            }
        }
        Ok(())
    }

    /// A connection ended before the blob did.
    fn broke(&mut self, source: io::Error) -> Result<(), LoadError> {
        self.body = None;
        if self.attempts < MAX_ATTEMPTS {
            return self.wait(source.to_string());
        }
        let error = RegistryError::Broken {
            host: self.client.registry().to_owned(),
            what: format!("blob {}", self.blob.digest),
            attempts: self.attempts + 1,
            at: self.at,
            source,
        };
        Err(error.into())
    }

    fn wait(&mut self, why: String) -> Result<(), LoadError> {
        // Nobody may be listening any more.
        let _ = self.told.send(PullProgress::LayerBroke {
            blob: self.blob.digest,
            at: self.at,
            why,
        });
        let end = Instant::now() + FIRST_WAIT * 2u32.pow(self.attempts);
        while Instant::now() < end && !self.stop.is_set() {
            thread::sleep(LOOK);
        }
        self.attempts += 1;
        Ok(())
    }
}

impl Read for Fetch<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.failure.is_some() {
            return Ok(0);
        }
        match self.next(buffer) {
            Ok(read) => Ok(read),
            Err(error) => {
                self.failure = Some(error);
                // `failure` says why.
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
    }
}
