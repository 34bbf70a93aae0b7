//! What lies in a pod's volumes of files, as its agent was told it last.
//!
//! ```text
//! <root>/pods/<uid>/files/<volume>.json   what the agent has, or is told at the start
//! <root>/pods/<uid>/files/<volume>.next   what it is to be told; renamed when it has been
//! ```
//! A supervisor that dies between the two leaves the second, and the next
//! update tells it again.

use super::{StoreError, atomic, private, read_json, to_json};
use crate::path_error::PathError;
use crate::settings::Settings;
use beluga_proto::PodUid;
use beluga_proto::agent::FilePiece;
use std::path::PathBuf;

fn path(settings: &Settings, uid: &PodUid, volume: &str, extension: &str) -> PathBuf {
    let directory = settings.pod_dir(uid).join("files");
    directory.join(volume).with_extension(extension)
}

/// Notes what a volume holds from the start.
pub fn begin(
    settings: &Settings,
    uid: &PodUid,
    volume: &str,
    pieces: &[FilePiece],
) -> Result<(), StoreError> {
    let path = path(settings, uid, volume, "json");
    let directory = settings.pod_dir(uid).join("files");
    private::make(&directory)?;
    let bytes = to_json(&path, &pieces)?;
    Ok(atomic::replace(&path, &bytes).map_err(PathError::on("write", &path))?)
}

/// Notes what a volume shall hold; whether the agent is to be told.
pub fn propose(
    settings: &Settings,
    uid: &PodUid,
    volume: &str,
    pieces: &[FilePiece],
) -> Result<bool, StoreError> {
    let path = path(settings, uid, volume, "next");
    let is_new = present(settings, uid, volume)?.as_deref() != Some(pieces);
    // One that is waiting may have reached the agent, or not.
    if !is_new && !path.exists() {
        return Ok(false);
    }
    let bytes = to_json(&path, &pieces)?;
    atomic::replace(&path, &bytes).map_err(PathError::on("write", &path))?;
    Ok(true)
}

/// What a volume holds.
pub fn present(
    settings: &Settings,
    uid: &PodUid,
    volume: &str,
) -> Result<Option<Vec<FilePiece>>, StoreError> {
    read_json(&path(settings, uid, volume, "json"))
}

/// What a volume shall hold and the agent has not been told.
pub fn next(
    settings: &Settings,
    uid: &PodUid,
    volume: &str,
) -> Result<Option<Vec<FilePiece>>, StoreError> {
    read_json(&path(settings, uid, volume, "next"))
}

/// Notes that the agent has what it was to be told.
pub fn settle(settings: &Settings, uid: &PodUid, volume: &str) -> Result<(), StoreError> {
    let next = path(settings, uid, volume, "next");
    let present = path(settings, uid, volume, "json");
    Ok(std::fs::rename(&next, &present).map_err(PathError::on("rename", &next))?)
}
