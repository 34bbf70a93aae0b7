//! Where a container's memory is reclaimed before it is at its limit, as the
//! kubelet's memory QoS has it.
//!
//! ```text
//! memory.high = floor((request + factor × (limit or the machine's memory − request)) / page) × page
//! ```

use super::downward::Facts;
use crate::spec::{Container, Resources};

/// Bytes of a page.
const PAGE: u64 = 4096;

/// What the factor is told in.
const MILLION: u64 = 1_000_000;

/// What the arithmetic needs beside a container's own amounts.
#[derive(Debug, Clone, Copy)]
pub struct Throttling {
    /// In millionths.
    pub factor: u32,
    /// Memory of the pod's machine in bytes.
    pub machine: u64,
}

/// How the containers of a pod are slowed down, if they are.
pub fn throttling(facts: &Facts<'_>) -> Option<Throttling> {
    Some(Throttling {
        factor: facts.memory_throttling?,
        machine: u64::from(facts.memory_mib) << 20,
    })
}

impl Throttling {
    /// `memory.high` in bytes; none for a container that may have what it asks
    /// for and no more.
    pub fn high(self, resources: &Resources) -> Option<u64> {
        let request = resources.memory_request.unwrap_or(0);
        let limit = resources.memory_limit.filter(|limit| *limit > 0);
        let above = limit.unwrap_or(self.machine).checked_sub(request)?;
        let part = u128::from(above) * u128::from(self.factor) / u128::from(MILLION);
        let high = (request + u64::try_from(part).ok()?) / PAGE * PAGE;
        (high > request).then_some(high)
    }
}

/// Whom the kernel kills first where the machine itself has no memory left, as the
/// kubelet tells it: who is far above what it has asked for, before who is not. What
/// comes to a sandbox says so itself.
pub fn oom_score_adj(facts: &Facts<'_>, container: &Container) -> i32 {
    if facts.spec.sandbox.is_some() {
        return container.guest.as_ref().map_or(0, |one| one.oom_score_adj);
    }
    let resources = &container.resources;
    let machine = u64::from(facts.memory_mib.max(1)) << 20;
    let request = resources.memory_request.unwrap_or_default().min(machine);
    let share = u128::from(request) * 1000 / u128::from(machine);
    match facts.spec.quality() {
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => i32::try_from(1000 - share.min(1000))
            .unwrap_or_default()
            .clamp(3, 999),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn high(request: Option<u64>, limit: Option<u64>) -> Option<u64> {
        let throttling = Throttling {
            factor: 900_000,
            machine: 512 * MIB,
        };
        throttling.high(&Resources {
            memory_request: request,
            memory_limit: limit,
            ..Resources::default()
        })
    }

    #[test]
    fn it_is_the_kubelets_arithmetic() {
        // 256Mi + 0.9 × 768Mi = 947.2Mi, down to a page.
        assert_eq!(high(Some(256 * MIB), Some(1024 * MIB)), Some(993_210_368));
        assert_eq!(high(None, Some(100 * MIB)), Some(90 * MIB));
        // Without a limit, what the machine has; so with nothing at all.
        assert_eq!(high(Some(112 * MIB), None), Some(472 * MIB));
        assert_eq!(high(None, None), Some(483_180_544));
    }

    #[test]
    fn who_may_have_what_it_asks_for_is_not_slowed_down() {
        assert_eq!(high(Some(64 * MIB), Some(64 * MIB)), None);
        assert_eq!(high(Some(64 * MIB), Some(64 * MIB + 4096)), None);
        assert_eq!(high(Some(600 * MIB), None), None);
    }
}
