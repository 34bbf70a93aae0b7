//! What of the host's firewalls `beluga doctor` tells.

use super::{Finding, Grade};
use crate::host::firewall::barriers;

/// Who keeps pods' packets back; nothing where nobody does.
pub fn finding() -> Option<Finding> {
    let barriers = barriers();
    let first = barriers.first()?;
    let all: Vec<String> = barriers.iter().map(ToString::to_string).collect();
    let found = format!(
        "pods may reach this host and no more, nor be reached: what is passed on is dropped by {}",
        all.join(", ")
    );
    Some(Finding::new("firewall", Grade::Doubtful, found).advise(first.advice()))
}
