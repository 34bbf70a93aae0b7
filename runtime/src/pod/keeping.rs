//! What a supervisor tells: events, the record, and those who watch.

use super::now;
use super::supervisor::Supervisor;
use crate::store::status::EventKind;
use crate::store::{self, Life, StoreError};

impl Supervisor {
    pub(super) fn warn(&mut self, reason: &str, message: String) {
        self.event(EventKind::Warning, reason, message);
    }

    pub(super) fn event(&mut self, kind: EventKind, reason: &str, message: String) {
        let time = now().unix;
        self.record
            .state
            .status
            .push_event(time, kind, reason, message);
        self.is_dirty = true;
    }

    /// A full disk does not end a pod that runs: what is not on record yet is
    /// written with the next change. The agent keeps the events until then.
    pub(super) fn go_on_unsaved(&mut self, error: StoreError) -> Result<(), StoreError> {
        if self.record.life == Life::Starting {
            return Err(error);
        }
        if !std::mem::replace(&mut self.is_unsaved, true) {
            let cause = crate::error_chain(&error);
            self.warn(
                "RecordNotWritten",
                format!("The pod's status is not on record: {cause}"),
            );
        }
        self.is_dirty = true;
        self.statuses.send_replace(self.record.status().clone());
        Ok(())
    }

    /// Brings record, watchers and agent up to date, in this order.
    pub(super) fn save(&mut self) -> Result<(), StoreError> {
        if !std::mem::take(&mut self.is_dirty) {
            return Ok(());
        }
        // What changes no state of the machine may change a condition: an end
        // that is asked for.
        let state = &mut self.record.state;
        state.status.keep_transitions(now().unix);
        let acked = self.runs.safe_event(self.received);
        let is_news = acked > self.record.acked;
        self.record.acked = acked.max(self.record.acked);
        store::write_record(&self.settings, &self.record)?;
        self.is_unsaved = false;
        self.statuses.send_replace(self.record.status().clone());
        if is_news {
            self.link.acknowledge(self.record.acked);
        }
        Ok(())
    }
}
