//! Waits that a busy registry asks for.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::cancel::Cancel;

/// Between two looks at whether to go on waiting.
const LOOK: Duration = Duration::from_millis(50);

/// Who is told of a wait: the host, and for how long.
pub(crate) type Told = Box<dyn Fn(&str, Duration) + Send>;

/// Tells of waits, and ends them when nobody waits any more. Every clone is the same.
#[derive(Clone, Default)]
pub(crate) struct Patience {
    cancel: Cancel,
    told: Arc<Mutex<Option<Told>>>,
}

impl Patience {
    pub(crate) fn new(cancel: &Cancel) -> Self {
        Self {
            cancel: cancel.clone(),
            told: Arc::default(),
        }
    }

    /// From now on this is told, or nobody.
    pub(crate) fn tell(&self, told: Option<Told>) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }

    /// Waits; `false` when it was cut short.
    pub(super) fn wait(&self, host: &str, span: Duration) -> bool {
        if let Some(told) = &*self.told.lock().unwrap_or_else(PoisonError::into_inner) {
            told(host, span);
        }
        let end = Instant::now() + span;
        while Instant::now() < end {
            if self.cancel.is_cancelled() {
                return false;
            }
            thread::sleep(LOOK.min(end.saturating_duration_since(Instant::now())));
        }
        !self.cancel.is_cancelled()
    }
}

/// A span as a person says it: `30 s`, `90 min`, `6 h`.
pub(super) fn spoken(span: &Duration) -> String {
    match span.as_secs() {
        secs @ 0..120 => format!("{secs} s"),
        secs @ 120..7200 => format!("{} min", secs.div_ceil(60)),
        secs => format!("{} h", secs.div_ceil(3600)),
    }
}
