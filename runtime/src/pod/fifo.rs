//! A run's output into named pipes, as it is: for a front that was given pipes by
//! somebody else. How much has gone into each is noted beside the pod's logs, so
//! that a supervisor that takes over goes on there.

use crate::logs::Output;
use crate::spec::Fifos;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

/// Bytes moved at a time: what a pipe holds.
const CHUNK: usize = 64 << 10;

/// Where one container's output goes.
#[derive(Debug, Clone)]
pub(super) struct Pipes {
    pub(super) fifos: Fifos,
    /// Directory of the notes of how far each stream has come.
    pub(super) directory: PathBuf,
}

impl Pipes {
    /// Bytes of a stream that have gone into its pipe.
    pub(super) fn safe(&self, output: Output) -> u64 {
        let mut bytes = [0; 8];
        let read = File::open(self.note(output)).and_then(|file| file.read_exact_at(&mut bytes, 0));
        read.map_or(0, |()| u64::from_le_bytes(bytes))
    }

    fn note(&self, output: Output) -> PathBuf {
        self.directory.join(match output {
            Output::Stdout => "stdout.moved",
            Output::Stderr => "stderr.moved",
        })
    }

    /// Moves both streams, each at its own pace, until both have ended.
    pub(super) async fn carry(
        &self,
        stdout: oneshot::Receiver<UnixStream>,
        stderr: Option<oneshot::Receiver<UnixStream>>,
        moved: &AtomicU64,
    ) -> io::Result<()> {
        std::fs::create_dir_all(&self.directory)?;
        let out = self.one(Output::Stdout, Some(stdout), moved);
        let err = self.one(Output::Stderr, stderr, moved);
        let (out, err) = tokio::join!(out, err);
        out.and(err)
    }

    async fn one(
        &self,
        output: Output,
        dialled: Option<oneshot::Receiver<UnixStream>>,
        moved: &AtomicU64,
    ) -> io::Result<()> {
        let path = match output {
            Output::Stdout => &self.fifos.stdout,
            Output::Stderr => &self.fifos.stderr,
        };
        // Before anything is known of the run: whoever reads waits for a writer.
        let mut pipe = path.as_deref().map(open).transpose()?;
        let Some(dialled) = dialled else {
            return Ok(());
        };
        let Ok(mut stream) = dialled.await else {
            return Ok(());
        };
        let note = File::create(self.note(output).with_extension("new"))?;
        let mut safe = self.safe(output);
        note.write_all_at(&safe.to_le_bytes(), 0)?;
        std::fs::rename(self.note(output).with_extension("new"), self.note(output))?;
        let mut buffer = vec![0; CHUNK];
        loop {
            let length = stream.read(&mut buffer).await.unwrap_or(0);
            if let Some(open) = &mut pipe {
                open.write_all(&buffer[..length]).await?;
            }
            safe += length as u64;
            note.write_all_at(&safe.to_le_bytes(), 0)?;
            moved.fetch_add(1, Ordering::Relaxed);
            let told = stream.write_all(&safe.to_le_bytes()).await;
            if told.is_err() || length == 0 {
                break;
            }
        }
        tokio::spawn(super::output::drain(stream));
        Ok(())
    }
}

/// Opened to read as well: it does not wait for a reader, and one that goes away
/// and comes back misses nothing.
fn open(path: &Path) -> io::Result<pipe::Sender> {
    pipe::OpenOptions::new().read_write(true).open_sender(path)
}
