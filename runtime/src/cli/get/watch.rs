//! `get --watch`: a line for each pod, then one for each whose line has changed, for ever.

use super::pods::{cells, table};
use crate::cli::pods::{Scope, all};
use crate::cli::tailing::Changes;
use crate::cli::{CliError, exit, output};
use crate::engine::PodView;
use crate::settings::Settings;
use std::time::Duration;

/// How long what is written together is waited for.
const SETTLE: Duration = Duration::from_millis(20);

/// Follows the pods of a scope, or those of it that are named.
pub async fn pods(
    settings: &Settings,
    scope: &Scope,
    names: &[String],
    (is_wide, mut no_headers): (bool, bool),
) -> Result<u8, CliError> {
    let changes = Changes::new();
    let mut before: Vec<PodView> = Vec::new();
    let mut is_first = true;
    loop {
        // Watched before it is looked at: nothing comes between the two.
        changes.add_records(&settings.pods());
        for pod in &before {
            changes.add_records(&settings.pod_dir(&pod.uid));
        }
        let mut now = all(settings, scope).await?;
        now.retain(|pod| names.is_empty() || names.contains(&pod.name));
        let absent = names
            .iter()
            .find(|name| !now.iter().any(|pod| pod.name == **name));
        if let Some(name) = absent.filter(|_| std::mem::take(&mut is_first)) {
            let name = name.clone();
            return Err(CliError::NotFound { what: "pod", name });
        }
        is_first = false;
        let news = news(&before, &now, scope, is_wide);
        if !news.is_empty() {
            let lines = table(&news, scope, is_wide).lines(0);
            for line in lines.iter().skip(usize::from(no_headers)) {
                say!("{line}");
            }
            no_headers = true;
        }
        let has_new = now
            .iter()
            .any(|pod| !before.iter().any(|old| old.uid == pod.uid));
        before = now;
        if output::is_unread() {
            return Ok(exit::OK);
        }
        // One that has just come is not watched yet.
        if !has_new {
            changes.wait().await;
        }
        tokio::time::sleep(SETTLE).await;
    }
}

/// The pods whose lines are others than before, then those that are gone, as they were last: so
/// kubectl tells that one was deleted.
fn news(before: &[PodView], now: &[PodView], scope: &Scope, is_wide: bool) -> Vec<PodView> {
    let line = |pod: &PodView| {
        let mut cells = cells(pod, scope, false);
        // Nobody wants a line for each second: no age, nor one of the last restart.
        cells.pop();
        let restarts = cells.pop().unwrap_or_default();
        cells.extend(restarts.split(' ').next().map(str::to_owned));
        if is_wide {
            cells.extend(pod.status.ips.first().map(ToString::to_string));
        }
        cells
    };
    let is_in = |all: &[PodView], pod: &PodView| all.iter().any(|one| one.uid == pod.uid);
    let changed = now.iter().filter(|pod| {
        let old = before.iter().find(|old| old.uid == pod.uid);
        old.is_none_or(|old| line(old) != line(pod))
    });
    let gone = before.iter().filter(|old| !is_in(now, old));
    changed.chain(gone).cloned().collect()
}
