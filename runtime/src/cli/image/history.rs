//! `beluga history`: of which steps an image was made, the last first.

use crate::cli::error::ImageError;
use crate::cli::images::{self, megabytes};
use crate::cli::table::Table;
use crate::cli::{CliError, exit};
use crate::settings::Settings;
use serde_json::Value;

/// As much of a step as a line has room for.
const STEP: usize = 60;

/// Arguments of `history`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name, or the beginning of an identifier
    image: String,
    /// Each step in full
    #[arg(long)]
    no_trunc: bool,
}

/// Runs the verb.
pub fn run(settings: &Settings, args: &Args) -> Result<u8, CliError> {
    let store = images::to_some(settings, || args.image.clone())?;
    let absent = || ImageError::None {
        image: args.image.clone(),
    };
    let image = store.find(&args.image)?.ok_or_else(absent)?;
    let details = store.details(&image)?;
    let steps = details.config.get("history").and_then(Value::as_array);
    let mut sizes = image.layers.iter().filter(|layer| !layer.is_parents);
    let mut rows = Vec::new();
    for step in steps.into_iter().flatten() {
        let text = |key: &str| step.get(key).and_then(Value::as_str).unwrap_or_default();
        let is_empty = step.get("empty_layer").and_then(Value::as_bool) == Some(true);
        let size = if is_empty { None } else { sizes.next() };
        let created = images::since(Some(text("created")));
        let size = megabytes(size.map_or(0, |layer| layer.size));
        let by = shown(text("created_by"), args.no_trunc);
        rows.push(vec![created, by, size, text("comment").to_owned()]);
    }
    // Layers that nobody has written a step for.
    for layer in sizes {
        let (created, size) = ("<unknown>".to_owned(), megabytes(layer.size));
        rows.push(vec![created, String::new(), size, String::new()]);
    }
    let mut table = Table::new(&["CREATED", "CREATED BY", "SIZE", "COMMENT"]);
    rows.into_iter().rev().for_each(|row| table.row(row));
    table.print();
    Ok(exit::OK)
}

/// A step in one line.
fn shown(step: &str, whole: bool) -> String {
    let line = step.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = crate::printable(&line);
    match line.char_indices().nth(STEP) {
        Some((end, _)) if !whole => format!("{}…", &line[..end]),
        _ => line,
    }
}
