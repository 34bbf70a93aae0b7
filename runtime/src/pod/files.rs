//! Fills the volumes of files: all of them before the first container, and
//! those whose content has changed while the pod runs.

use super::supervisor::{Message, Supervisor};
use crate::link::Link;
use crate::settings::Settings;
use crate::store::files;
use crate::store::status::EventKind;
use beluga_proto::agent::FilePiece;
use beluga_proto::bytes::Bytes;
use beluga_proto::pod::VolumeKind;
use beluga_proto::{Fault, FaultCode, PodUid, Request};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, oneshot};

/// Most bytes of content in one request: base64 makes a third more of them,
/// and a frame has a limit of 2 MiB.
const MAX_CONTENT: usize = 512 << 10;

/// Most files in one request; their paths may have 1 KiB each, which JSON may
/// write in six.
const MAX_FILES: usize = 128;

/// How long the agent may take to write what one request brings.
const PATIENCE: Duration = Duration::from_secs(20);

/// Tells the agent what lies in the volumes of one pod.
#[derive(Debug, Clone)]
pub(super) struct Filler {
    settings: Settings,
    uid: PodUid,
    link: Link,
    volumes: Arc<[String]>,
    turn: Arc<Mutex<()>>,
}

impl Filler {
    /// Tells what has changed or, at the pod's start, everything; gives the
    /// names of the volumes. One update at a time, so that they come in order.
    pub(super) async fn fill(&self, everything: bool) -> Result<Vec<String>, Fault> {
        let _turn = self.turn.lock().await;
        let mut filled = Vec::new();
        for volume in self.volumes.iter() {
            let next = files::next(&self.settings, &self.uid, volume).map_err(unreadable)?;
            let is_new = next.is_some();
            let pieces = match next {
                None if !everything => continue,
                None => files::present(&self.settings, &self.uid, volume).map_err(unreadable)?,
                next => next,
            };
            self.send(volume, pieces.unwrap_or_default()).await?;
            if is_new {
                files::settle(&self.settings, &self.uid, volume).map_err(unreadable)?;
            }
            filled.push(volume.clone());
        }
        Ok(filled)
    }

    async fn send(&self, volume: &str, pieces: Vec<FilePiece>) -> Result<(), Fault> {
        let mut requests = portions(pieces).into_iter().peekable();
        let mut first = true;
        while let Some(files) = requests.next() {
            let reply = self.link.request(Request::WriteFiles {
                volume: volume.to_owned(),
                files,
                first,
                last: requests.peek().is_none(),
            });
            first = false;
            let late = |_| {
                let message = format!("the volume {volume} could not be filled in time");
                Fault::new(FaultCode::DeadlineExceeded, message)
            };
            tokio::time::timeout(PATIENCE, reply)
                .await
                .map_err(late)??;
        }
        Ok(())
    }
}

fn unreadable(error: crate::store::StoreError) -> Fault {
    Fault::new(FaultCode::Internal, crate::error_chain(&error))
}

/// Files in portions that fit into frames; at least one, which may be empty.
fn portions(pieces: Vec<FilePiece>) -> Vec<Vec<FilePiece>> {
    let mut portions = vec![Vec::new()];
    let mut room = MAX_CONTENT;
    for piece in pieces {
        let FilePiece {
            path,
            mode,
            content: Bytes(content),
            ..
        } = piece;
        let mut rest = content.as_slice();
        let mut append = false;
        loop {
            let is_full = |portion: &Vec<FilePiece>| portion.len() >= MAX_FILES;
            if room == 0 || portions.last().is_none_or(is_full) {
                portions.push(Vec::new());
                room = MAX_CONTENT;
            }
            let (now, later) = rest.split_at(rest.len().min(room));
            room -= now.len();
            rest = later;
            if let Some(portion) = portions.last_mut() {
                portion.push(FilePiece {
                    path: path.clone(),
                    mode,
                    content: Bytes(now.to_vec()),
                    append,
                });
            }
            append = true;
            if rest.is_empty() {
                break;
            }
        }
    }
    portions
}

impl Supervisor {
    /// Who fills the volumes of files; `None` when there are none.
    pub(super) fn filler(&self) -> Option<Filler> {
        let all = self.plan.guest.volumes.iter();
        let files = all.filter(|volume| volume.kind == VolumeKind::Files);
        let volumes: Arc<[String]> = files.map(|volume| volume.name.clone()).collect();
        (!volumes.is_empty()).then(|| Filler {
            settings: self.settings.clone(),
            uid: self.record.uid.clone(),
            link: self.link.clone(),
            volumes,
            turn: self.filling.clone(),
        })
    }

    /// Brings volumes up to date whose content has changed.
    pub(super) fn refresh(&self, reply: Option<oneshot::Sender<Result<(), Fault>>>) {
        // Before the first container is started everything is read anyway.
        let filler = self.filler().filter(|_| self.is_set_up);
        let Some(filler) = filler else {
            if let Some(reply) = reply {
                let _ = reply.send(Ok(()));
            }
            return;
        };
        self.later(async move {
            let filled = filler.fill(false).await;
            if let Some(reply) = reply {
                let _ = reply.send(filled.as_ref().map(drop).map_err(Clone::clone));
            }
            Message::Filled(filled)
        });
    }

    pub(super) fn on_filled(&mut self, filled: Result<Vec<String>, Fault>) {
        match filled {
            Ok(volumes) if volumes.is_empty() => {}
            Ok(volumes) => {
                let message = format!("New content of {}", volumes.join(", "));
                self.event(EventKind::Normal, "VolumesUpdated", message);
            }
            Err(fault) => self.warn(
                "FailedUpdate",
                format!("Volumes keep what they have: {fault}"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(path: &str, bytes: usize) -> FilePiece {
        FilePiece {
            path: path.into(),
            mode: 0o644,
            content: Bytes(vec![7; bytes]),
            append: false,
        }
    }

    #[test]
    fn portions_fit_into_frames_and_lose_nothing() {
        assert_eq!(portions(Vec::new()), [Vec::new()]);
        let many: Vec<FilePiece> = (0..600).map(|at| piece(&at.to_string(), 0)).collect();
        let parts = portions(many);
        assert_eq!(
            parts.iter().map(Vec::len).collect::<Vec<_>>(),
            [128, 128, 128, 128, 88]
        );
        let parts = portions(vec![
            piece("a", 100),
            piece("b", 3 * MAX_CONTENT),
            piece("c", 5),
        ]);
        let sizes: Vec<usize> = parts
            .iter()
            .map(|part| part.iter().map(|piece| piece.content.0.len()).sum())
            .collect();
        assert_eq!(sizes, [MAX_CONTENT, MAX_CONTENT, MAX_CONTENT, 105]);
        let b: Vec<bool> = parts
            .iter()
            .flatten()
            .filter(|piece| piece.path == "b")
            .map(|piece| piece.append)
            .collect();
        assert_eq!(b, [false, true, true, true]);
        let longest = vec![piece(&"x".repeat(1024), MAX_CONTENT)];
        let request = beluga_proto::HostFrame::Request {
            id: u64::MAX,
            request: Request::WriteFiles {
                volume: "v".repeat(63),
                files: portions(longest).remove(0),
                first: true,
                last: true,
            },
        };
        assert!(beluga_proto::encode(&request).is_ok());
    }
}
