//! What a command waits for, told to a person who would wonder.

use super::style::Style;
use crate::engine::PodView;
use std::io::IsTerminal as _;
use std::time::Duration;

/// How long nobody wonders.
const SOON: Duration = Duration::from_secs(1);

/// Names of pods that fit a line.
const SHOWN: usize = 4;

/// Does work. A person who still waits for it after a moment is told what for; a pipe is not.
pub async fn told<T>(what: impl FnOnce() -> Option<String>, work: impl Future<Output = T>) -> T {
    let is_person = std::io::stderr().is_terminal();
    let tell = || {
        if let Some(line) = what().filter(|_| is_person) {
            tell!("{}", Style::stderr().dim(&line));
        }
    };
    while_waiting(SOON, tell, work).await
}

async fn while_waiting<T>(soon: Duration, news: impl FnOnce(), work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    match tokio::time::timeout(soon, &mut work).await {
        Ok(done) => done,
        Err(_) => {
            news();
            work.await
        }
    }
}

/// That pods are waited for to end, for how long, and how it goes faster; nothing of those that
/// have ended.
pub fn ending<'p>(
    pods: impl Iterator<Item = &'p PodView>,
    grace: Option<u32>,
    faster: &str,
) -> Option<String> {
    let mut names = Vec::new();
    let mut longest = 0;
    for pod in pods.filter(|pod| !pod.status.phase.is_end()) {
        names.push(pod.name.as_str());
        longest = longest.max(grace.unwrap_or(pod.spec.grace_seconds));
    }
    let what = match names.as_slice() {
        [] => return None,
        [one] => format!("pod/{one}"),
        some if some.len() <= SHOWN => format!("pods {}", some.join(", ")),
        many => format!("{} pods", many.len()),
    };
    Some(match longest {
        0 => format!("{what}: being killed"),
        _ => format!("{what}: stopping, {longest} s at most ({faster} kills at once)"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test]
    async fn only_what_takes_long_is_told() {
        let told = Cell::new(false);
        let long = tokio::time::sleep(Duration::from_millis(20));
        while_waiting(Duration::from_millis(1), || told.set(true), long).await;
        assert!(told.take());
        let short = std::future::ready(7);
        assert_eq!(while_waiting(SOON, || told.set(true), short).await, 7);
        assert!(!told.get());
    }
}
