//! A probe's count: when the next attempt is due, what attempts add up to, and
//! what of it is news. No clock of its own, no descriptors.

use crate::check::Outcome;
use beluga_proto::probe::{ProbeKind, ProbeSpec};
use std::time::{Duration, Instant};

/// A probe that goes on failing tells so many different reasons.
const MAX_TEXTS: u8 = 8;

/// A probe of a container that runs.
#[derive(Debug)]
pub struct Probe {
    /// What is probed, and how often.
    pub spec: ProbeSpec,
    /// When the next attempt is due; none while one is under way, and when
    /// there is nothing more to find out.
    due: Option<Instant>,
    /// When the last attempt began.
    began: Instant,
    passes: Option<bool>,
    /// How attempts have ended last, and how often in a row.
    last: Option<bool>,
    run: u32,
    untold: u32,
    errored: bool,
    /// What was said last, and how many other things will be told before it
    /// passes again.
    said: String,
    texts: u8,
}

/// What the supervisor is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// What holds from now on; none: what held before.
    pub passed: Option<bool>,
    /// Failed attempts that have not been told.
    pub failures: u32,
    /// About the last one.
    pub message: String,
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(u64::from(count))
}

impl Probe {
    /// A probe of a container that has just started.
    pub fn new(spec: ProbeSpec, now: Instant) -> Self {
        Self {
            due: Some(now + seconds(spec.initial_delay_seconds)),
            began: now,
            // What the supervisor takes for granted before the first news.
            passes: match spec.kind {
                ProbeKind::Startup => None,
                ProbeKind::Readiness => Some(false),
                ProbeKind::Liveness => Some(true),
            },
            spec,
            last: None,
            run: 0,
            untold: 0,
            errored: false,
            said: String::new(),
            texts: MAX_TEXTS,
        }
    }

    /// How long an attempt may take.
    pub fn timeout(&self) -> Duration {
        seconds(self.spec.timeout_seconds.max(1))
    }

    /// When the next attempt is due.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether it passes.
    pub fn passes(&self) -> bool {
        self.passes == Some(true)
    }

    /// An attempt begins.
    pub fn begins(&mut self, now: Instant) {
        self.due = None;
        self.began = now;
    }

    /// An attempt has ended; what of it is news.
    pub fn ended(&mut self, outcome: Outcome) -> Option<News> {
        // A slow attempt delays the next one, but never makes it come twice.
        self.due = Some(self.began + seconds(self.spec.period_seconds.max(1)));
        let (passed, said) = match outcome {
            Outcome::Passed => (true, String::new()),
            Outcome::Failed(said) => (false, said),
            // It says nothing about the container, so it does not count.
            Outcome::Errored(why) => {
                let is_news = !std::mem::replace(&mut self.errored, true);
                return is_news.then(|| News {
                    passed: None,
                    failures: 1,
                    message: format!("errored and resulted in unknown state: {why}"),
                });
            }
        };
        self.errored = false;
        let is_other = !passed && said != self.said;
        if passed {
            self.texts = MAX_TEXTS;
        }
        self.run = if self.last == Some(passed) {
            self.run.saturating_add(1)
        } else {
            1
        };
        self.last = Some(passed);
        self.untold += u32::from(!passed);
        let threshold = if passed {
            self.spec.success_threshold
        } else {
            self.spec.failure_threshold
        };
        let is_change = self.passes != Some(passed) && self.run >= threshold;
        if is_change {
            self.passes = Some(passed);
            let is_final = match self.spec.kind {
                // The container has started, or will be restarted.
                ProbeKind::Startup => true,
                ProbeKind::Liveness => !passed,
                ProbeKind::Readiness => false,
            };
            if is_final {
                self.due = None;
            }
        } else if passed || (self.run > 1 && (!is_other || self.texts == 0)) {
            return None;
        }
        if is_other {
            self.texts = self.texts.saturating_sub(1);
            self.said.clone_from(&said);
        }
        Some(News {
            passed: is_change.then_some(passed),
            failures: if passed {
                0
            } else {
                std::mem::take(&mut self.untold)
            },
            message: format!("failed: {said}"),
        })
        .inspect(|_| self.untold = 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use beluga_proto::probe::Handler;

    fn probe(kind: ProbeKind, success: u32, failure: u32) -> (Probe, Instant) {
        let now = Instant::now();
        let spec = ProbeSpec {
            kind,
            handler: Handler::Exec {
                command: vec!["true".into()],
            },
            initial_delay_seconds: 3,
            period_seconds: 10,
            timeout_seconds: 1,
            success_threshold: success,
            failure_threshold: failure,
        };
        (Probe::new(spec, now), now)
    }

    fn bad() -> Outcome {
        Outcome::Failed("no".to_owned())
    }

    fn news(passed: Option<bool>, failures: u32) -> Option<News> {
        Some(News {
            passed,
            failures,
            message: format!("failed: {}", if passed == Some(true) { "" } else { "no" }),
        })
    }

    #[test]
    fn attempts_come_after_the_delay_and_then_every_period() {
        let (mut probe, start) = probe(ProbeKind::Liveness, 1, 3);
        let at = |seconds| Some(start + Duration::from_secs(seconds));
        assert_eq!(probe.due(), at(3));
        probe.begins(start + Duration::from_secs(3));
        assert_eq!(probe.due(), None);
        assert_eq!(probe.ended(Outcome::Passed), None, "it passed before");
        assert_eq!(probe.due(), at(13));
    }

    #[test]
    fn liveness_fails_at_its_threshold_and_is_then_at_rest() {
        let (mut probe, now) = probe(ProbeKind::Liveness, 1, 3);
        for (outcome, expected) in [
            (bad(), news(None, 1)),
            (Outcome::Passed, None),
            (bad(), news(None, 1)),
            (bad(), None),
            (bad(), news(Some(false), 2)),
        ] {
            probe.begins(now);
            assert_eq!(probe.ended(outcome), expected);
        }
        assert_eq!(probe.due(), None, "it waits for the restart");
    }

    #[test]
    fn readiness_needs_its_successes_in_a_row_and_goes_on() {
        let (mut probe, now) = probe(ProbeKind::Readiness, 2, 2);
        for (outcome, expected) in [
            (bad(), news(None, 1)),
            (bad(), None),
            (Outcome::Passed, None),
            (bad(), news(None, 2)),
            (Outcome::Passed, None),
            (Outcome::Passed, news(Some(true), 0)),
            (Outcome::Passed, None),
            (bad(), news(None, 1)),
            (bad(), news(Some(false), 1)),
        ] {
            probe.begins(now);
            assert_eq!(probe.ended(outcome), expected);
        }
        assert!(probe.due().is_some());
    }

    #[test]
    fn another_reason_is_news_but_not_for_ever() {
        let (mut probe, now) = probe(ProbeKind::Readiness, 1, 3);
        let mut told = 0;
        for count in 0..100 {
            probe.begins(now);
            let news = probe.ended(Outcome::Failed(format!("reason {}", count / 2)));
            told += usize::from(news.is_some());
        }
        assert_eq!(told, usize::from(MAX_TEXTS));
    }

    #[test]
    fn startup_is_over_when_it_has_passed_once() {
        let (mut probe, now) = probe(ProbeKind::Startup, 1, 2);
        probe.begins(now);
        assert!(!probe.passes());
        assert_eq!(probe.ended(Outcome::Passed), news(Some(true), 0));
        assert!(probe.passes() && probe.due().is_none());
    }

    #[test]
    fn what_could_not_be_tried_is_told_once_and_does_not_count() {
        let (mut probe, now) = probe(ProbeKind::Liveness, 1, 1);
        let error = || Outcome::Errored("no such command".to_owned());
        probe.begins(now);
        let told = probe.ended(error()).unwrap();
        assert_eq!(told.passed, None);
        assert_eq!(
            told.message,
            "errored and resulted in unknown state: no such command"
        );
        probe.begins(now);
        assert_eq!(probe.ended(error()), None);
        assert!(probe.passes());
    }
}
