//! `beluga label` and `annotate`: words on a pod, taken over while it runs.

use super::change::{self, Changed, PATIENCE};
use super::error::{StateError, UsageError};
use super::{CliError, exit, pods};
use crate::settings::Settings;
use serde_json::{Map, Value, json};

/// Arguments of `label` and `annotate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// `POD KEY=VALUE… KEY-…`, or `pod/POD …`; KEY- removes
    #[arg(required = true, value_name = "POD KEY=VALUE")]
    words: Vec<String>,
    /// Replace values that are there
    #[arg(long)]
    overwrite: bool,
    /// Namespace of the pod
    #[arg(short, long, default_value = pods::DEFAULT)]
    namespace: String,
}

/// Runs `label`.
pub async fn label(settings: &Settings, args: Args) -> Result<u8, CliError> {
    run(settings, args, "labels", "labeled").await
}

/// Runs `annotate`.
pub async fn annotate(settings: &Settings, args: Args) -> Result<u8, CliError> {
    run(settings, args, "annotations", "annotated").await
}

async fn run(settings: &Settings, args: Args, field: &str, done: &str) -> Result<u8, CliError> {
    let is_change = |word: &&String| word.contains('=') || word.ends_with('-');
    let (changes, names): (Vec<&String>, Vec<&String>) = args.words.iter().partition(is_change);
    let names: Vec<String> = names.into_iter().cloned().collect();
    let names = pods::names(&names)?;
    let ([name], false) = (names.as_slice(), changes.is_empty()) else {
        return Err(UsageError::NoLabel.into());
    };
    let pod = pods::one(settings, &args.namespace, name).await?;
    let mut object = change::editable(&pod);
    if !object["metadata"][field].is_object() {
        object["metadata"][field] = json!({});
    }
    if let Some(map) = object["metadata"][field].as_object_mut() {
        for word in changes {
            set(map, word, args.overwrite)?;
        }
    }
    let patience = change::patience(PATIENCE).unwrap_or_default();
    let word = match change::to_manifest(settings, &pod, &object, patience).await? {
        Changed::Unchanged => format!("not {done}"),
        _ => done.to_owned(),
    };
    say!("pod/{name} {word}");
    Ok(exit::OK)
}

/// Does one word. Errors, as kubectl does, when it would replace a value.
fn set(map: &mut Map<String, Value>, word: &str, overwrite: bool) -> Result<(), CliError> {
    let Some((key, value)) = word.split_once('=') else {
        map.remove(word.trim_end_matches('-'));
        return Ok(());
    };
    match map.get(key) {
        Some(present) if *present != value && !overwrite => Err(StateError::LabelTaken {
            key: key.to_owned(),
            present: present.as_str().unwrap_or_default().to_owned(),
        }
        .into()),
        _ => {
            map.insert(key.to_owned(), json!(value));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_set_kept_and_removed() {
        let mut map = Map::new();
        set(&mut map, "a=1=2", false).unwrap();
        set(&mut map, "a=1=2", false).unwrap();
        let error = set(&mut map, "a=3", false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "'a' already has a value (1=2), and --overwrite is false"
        );
        set(&mut map, "a=3", true).unwrap();
        assert_eq!(map["a"], "3");
        set(&mut map, "a-", false).unwrap();
        assert!(map.is_empty());
    }
}
