//! The pod's tables in the host's packet filter: the kernel tells when one goes, and
//! what others have thrown away is put back at once. Until then a guest may send what
//! it likes, and nobody finds its published ports.

use super::supervisor::Supervisor;
use crate::host::network;
use crate::host::policy::table_of;
use crate::host::rules::News;
use crate::plan::Plan;
use crate::{host, policy};

/// Waits until one of the pod's tables may have gone; for ever where it has none.
pub(super) async fn gone(news: Option<&News>, plan: &Plan) {
    match news {
        Some(news) => news.gone(|name| is_own(plan, name)).await,
        None => std::future::pending().await,
    }
}

fn is_own(plan: &Plan, name: &str) -> bool {
    let network = plan.identity.network.as_ref();
    host::tables_of(plan).any(|(_, own)| own == name)
        || network.is_some_and(|own| table_of(&own.tap) == name)
}

impl Supervisor {
    /// Begins to listen, then looks: what went before is put back too.
    pub(super) fn watch_rules(&mut self) {
        if host::tables_of(&self.plan).next().is_none() {
            return;
        }
        match News::listen() {
            Ok(news) => self.rules = Some(news),
            Err(error) => self.warn(
                "RulesNotWatched",
                format!("The kernel does not tell what becomes of the pod's rules: {error}"),
            ),
        }
        self.restore_rules();
    }

    /// Makes what is not there, and says so.
    pub(super) fn restore_rules(&mut self) {
        let present = network::tables(&self.settings);
        let is_there = |(family, name): (_, &str)| {
            present
                .iter()
                .any(|one| one.0 == family && one.1.as_str() == name)
        };
        let is_whole = host::tables_of(&self.plan).all(is_there);
        let restored = host::restore_rules(&self.settings, &self.plan, &present)
            .map_err(|error| crate::error_chain(&error))
            .and_then(|()| {
                let own = self.plan.identity.network.as_ref();
                own.map_or(Ok(false), |own| {
                    policy::restore_of(&self.settings, &own.tap, &present)
                        .map_err(|error| crate::error_chain(&error))
                })
            });
        match restored {
            Ok(false) if is_whole => {}
            Ok(_) => self.warn(
                "RulesRestored",
                "Somebody has taken the pod's rules out of the host's packet filter, as \
                 `nft flush ruleset` does; they have been put back"
                    .to_owned(),
            ),
            Err(why) => self.warn(
                "RulesLost",
                format!("The pod's rules are gone from the host's packet filter: {why}"),
            ),
        }
    }
}
