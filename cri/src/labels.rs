//! Filters by labels.

use std::collections::HashMap;

/// Whether labels have all that a selector names.
pub fn matches(labels: &HashMap<String, String>, selector: &HashMap<String, String>) -> bool {
    selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}
