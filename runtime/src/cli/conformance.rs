//! `beluga conformance`: whether pods do on this host what a pod must do.

use super::error::UsageError;
use super::style::Style;
use super::table::Table;
use super::{CliError, doctor, exit};
use crate::conformance::{self, Interrupted, Outcome, Verdict};
use crate::engine::EngineError;
use crate::printable;
use crate::settings::Settings;
use serde_json::json;
use std::io::{IsTerminal as _, Write as _};

/// Arguments of `conformance`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Behaviours by number, like 17 or 25-27; all of them without any
    #[arg(value_name = "NUMBER", value_parser = range)]
    numbers: Vec<(u32, u32)>,
    /// Print as json
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Json,
}

/// `17`, or `25-27`.
fn range(text: &str) -> Result<(u32, u32), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse().ok();
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        _ => Err("a number, or two like 25-27".to_owned()),
    }
}

/// Runs the verb. Exit code 1 when a check fails or none could be made.
pub async fn run(settings: &Settings, args: &Args) -> Result<u8, CliError> {
    let wanted = wanted(args)?;
    doctor::must_run_guests()?;
    settings.parts().map_err(EngineError::from)?;
    let images = settings.check_images().map_err(EngineError::from)?;
    let groups = conformance::groups(&wanted);
    let count: usize = groups.iter().map(|group| group.checks.len()).sum();
    let progress = Progress::new(count);
    let done = conformance::all(settings, &images, groups, |check| {
        progress.at(check.behaviour, &check.what);
    })
    .await;
    progress.end();
    let (outcomes, interrupted) = done?;
    match args.output {
        Some(Format::Json) => say!("{:#}", value(&outcomes)),
        None => print(&outcomes),
    }
    if interrupted == Interrupted(true) {
        return Ok(exit::INTERRUPTED);
    }
    let good = counts(&outcomes);
    Ok(if good[1] > 0 || good[0] == 0 {
        exit::ERROR
    } else {
        exit::OK
    })
}

/// The numbers that are meant; none for all.
fn wanted(args: &Args) -> Result<Vec<u32>, CliError> {
    let there = conformance::behaviours();
    let mut wanted = Vec::new();
    for (first, last) in &args.numbers {
        if let Some(absent) = (*first..=*last).find(|number| !there.contains(number)) {
            let last = there.last().copied().unwrap_or_default();
            return Err(UsageError::NoCheck { absent, last }.into());
        }
        wanted.extend(*first..=*last);
    }
    Ok(wanted)
}

/// What is being checked, on one line of a terminal.
struct Progress {
    count: usize,
    is_terminal: bool,
}

impl Progress {
    fn new(count: usize) -> Self {
        Self {
            count,
            is_terminal: std::io::stderr().is_terminal(),
        }
    }

    fn at(&self, behaviour: u32, what: &str) {
        self.write(&format!(
            "checking {behaviour} of {} checks: {what}",
            self.count
        ));
    }

    fn end(&self) {
        self.write("");
    }

    fn write(&self, text: &str) {
        if self.is_terminal {
            let short: String = text.chars().take(79).collect();
            let mut out = std::io::stderr();
            drop(write!(out, "\r\x1b[K{short}").and_then(|()| out.flush()));
        }
    }
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed(_) => "failed",
        Verdict::Skipped(_) => "skipped",
    }
}

/// How many passed, failed, and were skipped.
fn counts(outcomes: &[Outcome]) -> [usize; 3] {
    ["passed", "failed", "skipped"].map(|wanted| {
        let all = outcomes.iter();
        all.filter(|one| word(&one.verdict) == wanted).count()
    })
}

fn print(outcomes: &[Outcome]) {
    let mut table = Table::new(&["NUMBER", "RESULT", "SECONDS", "BEHAVIOUR"]);
    for one in outcomes {
        table.row(vec![
            one.behaviour.to_string(),
            word(&one.verdict).to_owned(),
            format!("{:.1}", one.took.as_secs_f64()),
            one.what.clone(),
        ]);
    }
    table.print();
    let style = Style::stdout();
    for one in outcomes {
        let (head, why) = match &one.verdict {
            Verdict::Passed => continue,
            Verdict::Failed(why) => (style.bad("failed"), why),
            Verdict::Skipped(why) => (style.warn("skipped"), why),
        };
        say!("\n{head} {}: {}", one.behaviour, one.what);
        for line in why.lines() {
            say!("  {}", printable(line));
        }
    }
    let [passed, failed, skipped] = counts(outcomes);
    say!("\n{passed} passed, {failed} failed, {skipped} skipped");
}

fn value(outcomes: &[Outcome]) -> serde_json::Value {
    let [passed, failed, skipped] = counts(outcomes);
    let checks = outcomes.iter().map(|one| {
        let mut row = json!({
            "behaviour": one.behaviour,
            "what": one.what,
            "result": word(&one.verdict),
            "seconds": (one.took.as_secs_f64() * 10.0).round() / 10.0,
        });
        if let Verdict::Failed(why) | Verdict::Skipped(why) = &one.verdict {
            row["reason"] = json!(why);
        }
        row
    });
    let checks: Vec<_> = checks.collect();
    json!({"passed": passed, "failed": failed, "skipped": skipped, "checks": checks})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(numbers: &[&str]) -> Args {
        Args {
            numbers: numbers.iter().map(|text| range(text).unwrap()).collect(),
            output: None,
        }
    }

    #[test]
    fn checks_are_named_by_numbers_and_ranges() {
        assert_eq!(wanted(&args(&["17", "25-27"])).unwrap(), [17, 25, 26, 27]);
        assert!(wanted(&args(&[])).unwrap().is_empty());
        let error = wanted(&args(&["34-36"])).unwrap_err();
        assert_eq!(error.to_string(), "there is no check 36: they are 1 to 35");
        assert!(range("3-2").is_err() && range("all").is_err());
    }

    #[test]
    fn a_check_that_failed_says_why() {
        let outcomes = [
            (Verdict::Passed, 1),
            (Verdict::Skipped("this host has no unshare".into()), 2),
            (Verdict::Failed("wanted: x".into()), 3),
        ]
        .map(|(verdict, behaviour)| Outcome {
            behaviour,
            what: "A pod.".into(),
            verdict,
            took: std::time::Duration::from_millis(1260),
        });
        assert_eq!(counts(&outcomes), [1, 1, 1]);
        let value = value(&outcomes);
        assert_eq!(value["checks"][0]["seconds"], 1.3);
        assert_eq!(value["checks"][2]["reason"], "wanted: x");
        assert_eq!(value["checks"][0].get("reason"), None);
    }
}
