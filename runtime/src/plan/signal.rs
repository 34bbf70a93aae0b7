//! Signals by name.

use super::PlanError;
use super::types::ImageFacts;
use crate::spec::Container;

/// Number of the signal that asks a container to end.
pub fn stop(container: &Container, image: &ImageFacts) -> Result<i32, PlanError> {
    // The manifest's was checked as a manifest is.
    let text = container
        .stop_signal
        .as_deref()
        .unwrap_or(&image.stop_signal);
    if text.is_empty() {
        return Ok(15);
    }
    signal(text).ok_or_else(|| PlanError::StopSignal {
        container: container.name.clone(),
        signal: text.chars().take(40).collect(),
    })
}

/// Number of a signal on x86-64, from `SIGTERM`, `TERM`, `15` or `SIGRTMIN+3`.
pub fn signal(text: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    /// First real-time signal as a C library sees it: it keeps two for itself.
    const RTMIN: i32 = 34;
    const RTMAX: i32 = 64;
    let in_range = |number: i32| (1..=RTMAX).contains(&number).then_some(number);
    if let Ok(number) = text.parse() {
        return in_range(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(plus) = name.strip_prefix("RTMIN") {
        let offset: i32 = if plus.is_empty() {
            0
        } else {
            plus.parse().ok()?
        };
        return (0..=30).contains(&offset).then_some(RTMIN + offset);
    }
    if let Some(minus) = name.strip_prefix("RTMAX") {
        let offset: i32 = if minus.is_empty() {
            0
        } else {
            minus.parse().ok()?
        };
        return (-30..=0).contains(&offset).then_some(RTMAX + offset);
    }
    let at = NAMES.iter().position(|known| *known == name)?;
    i32::try_from(at + 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("SIGRTMAX-1", Some(63)),
            ("RTMIN", Some(34)),
            ("SIGSYS", Some(31)),
            ("0", None),
            ("65", None),
            ("SIGNOPE", None),
            ("RTMIN+99999999999", None),
        ] {
            assert_eq!(signal(text), number, "{text}");
        }
    }
}
