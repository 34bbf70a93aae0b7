//! `-f`: the pods of files, directories and standard input, with their images.

use super::CliError;
use super::ensure::{self, Mode, Wanted};
use super::error::UsageError;
use super::style::Style;
use crate::engine::{self, EngineError};
use crate::plan::{ImageFacts, PlanError};
use crate::pod;
use crate::settings::Settings;
use crate::spec::{self, ConfigObject, Document, Issue, Manifest, ManifestError, Reading};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Reads every document behind `-f`, into a namespace where they name none; warnings go to
/// standard error.
pub fn read(files: &[PathBuf], namespace: Option<&str>) -> Result<Manifest, CliError> {
    read_as(files, namespace, (false, false))
}

/// The same with the Jobs of CronJobs in their place.
pub fn read_now(files: &[PathBuf], namespace: Option<&str>) -> Result<Manifest, CliError> {
    read_as(files, namespace, (true, false))
}

/// The same of what is made anew, names and all.
pub fn read_new(
    files: &[PathBuf],
    namespace: Option<&str>,
    is_now: bool,
) -> Result<Manifest, CliError> {
    read_as(files, namespace, (is_now, true))
}

/// Errors where a word is the name of a manifest that lies here: `-f` was forgotten.
pub fn is_no_file(words: &[String]) -> Result<(), UsageError> {
    let is_manifest = |word: &&String| {
        let extension = Path::new(word.as_str()).extension();
        let extension = extension.and_then(|extension| extension.to_str());
        matches!(extension, Some("yaml" | "yml" | "json")) && Path::new(word.as_str()).is_file()
    };
    match words.iter().find(is_manifest) {
        Some(file) => Err(UsageError::FileWithoutFlag { file: file.clone() }),
        None => Ok(()),
    }
}

fn read_as(
    files: &[PathBuf],
    namespace: Option<&str>,
    (is_now, is_new): (bool, bool),
) -> Result<Manifest, CliError> {
    let mut found = Manifest::default();
    let mut nothing = None;
    for file in files {
        for (name, text) in texts(file)? {
            let reading = Reading {
                namespace,
                now: is_now.then(pod::random_bytes),
                made: is_new.then(pod::random_bytes),
            };
            let read = spec::read_part(&name, &text, reading)?;
            nothing = nothing.or(read.nothing);
            found.pods.extend(read.pods);
            found.objects.extend(read.objects);
            found.workloads.extend(read.workloads);
            found.warnings.extend(read.warnings);
        }
    }
    let documents = found.documents();
    // A Service alone is no success; beside the pods of another file it is left out.
    if let (true, true, Some(error)) = (documents.is_empty(), found.objects.is_empty(), nothing) {
        return Err(error.into());
    }
    let of_pods = documents.iter().flat_map(|document| &document.warnings);
    warn(found.warnings.iter().chain(of_pods));
    Ok(found)
}

fn warn<'a>(warnings: impl Iterator<Item = &'a String>) {
    let style = Style::stderr();
    for warning in warnings {
        tell!("{} {warning}", style.warn("warning:"));
    }
}

fn texts(file: &Path) -> Result<Vec<(String, String)>, CliError> {
    if file == Path::new("-") {
        let text = bounded(std::io::stdin().lock(), Path::new("standard input"))?;
        return Ok(vec![("standard input".into(), text)]);
    }
    let mut files = vec![file.to_owned()];
    if file.is_dir() {
        let entries = std::fs::read_dir(file).map_err(|source| CliError::read(file, source))?;
        files = entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| {
                let extension = path.extension().and_then(|extension| extension.to_str());
                matches!(extension, Some("yaml" | "yml" | "json"))
            })
            .collect();
        files.sort();
        if files.is_empty() {
            let nothing = "no .yaml, .yml or .json in it";
            let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, nothing);
            return Err(CliError::read(file, source));
        }
    }
    files
        .iter()
        .map(|file| {
            let open = std::fs::File::open(file).map_err(|source| CliError::read(file, source))?;
            Ok((file.display().to_string(), bounded(open, file)?))
        })
        .collect()
}

/// One byte more than is allowed, so that too long a text is seen as such.
fn bounded(from: impl std::io::Read, name: &Path) -> Result<String, CliError> {
    let limit = u64::try_from(spec::MAX_TEXT).unwrap_or(u64::MAX);
    let mut text = String::new();
    from.take(limit + 1)
        .read_to_string(&mut text)
        .map_err(|source| CliError::read(name, source))?;
    Ok(text)
}

/// The name of a manifest that was made from a command line.
pub const COMMAND_LINE: &str = "the command line";

/// Errors with the place of the largest amount when a pod is too large for this
/// host.
fn fit(documents: &[&Document]) -> Result<(), ManifestError> {
    for document in documents {
        let place = match engine::fits(&document.spec) {
            Err(PlanError::Cpus { .. }) => &document.size_places[0],
            Err(PlanError::Memory { .. }) => &document.size_places[1],
            _ => continue,
        };
        let message = engine::fits(&document.spec)
            .err()
            .map(|error| error.to_string());
        let issue = Issue {
            at: place.0,
            path: place.1.clone(),
            message: message.unwrap_or_default(),
            hint: None,
        };
        return Err(ManifestError {
            source_name: document.source_name.clone(),
            issues: vec![issue],
        });
    }
    Ok(())
}

/// An error of starting or planning a document's pod, with its place.
pub fn placed(document: &Document, error: EngineError) -> CliError {
    match &error {
        EngineError::Plan(plan) => {
            let fields = plan.fields(&document.spec);
            document.refused(&fields, crate::error_chain(plan)).into()
        }
        _ => error.into(),
    }
}

/// The images of all documents' pods, or an error with the place of what is not to be had.
/// `objects` are those of the same manifest; without `is_quiet` pulls are told.
pub fn images(
    settings: &Settings,
    documents: &[(&Document, Mode)],
    (objects, is_quiet): (&[ConfigObject], bool),
) -> Result<BTreeMap<String, ImageFacts>, CliError> {
    let all: Vec<&Document> = documents.iter().map(|(document, _)| *document).collect();
    fit(&all)?;
    let wanted = documents.iter().map(|(document, mode)| Wanted {
        spec: &document.spec,
        document: Some(document),
        mode: *mode,
        is_quiet,
    });
    ensure::images(settings, &wanted.collect::<Vec<_>>(), objects)
}
