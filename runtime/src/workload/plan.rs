//! What is to be done next so that a workload has the pods that it shall have.
//! Pure: pods in, one step out; the step done, the pods are looked at again.
//!
//! ```text
//! ended pods go ─► too few: start ─┬─► too many: delete ─► old ones: replace ─► done
//!                                  └─► (a step would make too few ready ones: await)
//! ```

use crate::spec::{Ordinals, Update, Workload};
use beluga_proto::PodUid;

/// A pod of the workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Which.
    pub uid: PodUid,
    /// It was made from the present template.
    pub is_current: bool,
    /// It has ended, or is on its way.
    pub has_ended: bool,
    /// It is ready.
    pub is_ready: bool,
    /// When it was made.
    pub created: u64,
    /// Of a StatefulSet: its number.
    pub ordinal: u32,
}

/// What a workload shall be.
#[derive(Debug, Clone)]
pub struct Shape<'w> {
    replicas: u32,
    update: Update,
    ordinals: Option<&'w Ordinals>,
}

impl<'w> Shape<'w> {
    /// As the workload says.
    #[must_use]
    pub fn of(workload: &'w Workload) -> Self {
        Self {
            replicas: workload.replicas,
            update: workload.update,
            ordinals: workload.ordinals.as_ref(),
        }
    }
}

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// So many pods more.
    Start(usize),
    /// The pods with these numbers.
    StartOrdinals(Vec<u32>),
    /// These go.
    Delete(Vec<PodUid>),
    /// Until a pod becomes ready or ends.
    Await,
    /// Nothing is left to do.
    Done,
}

/// The next step.
#[must_use]
pub fn step(shape: &Shape<'_>, members: &[Member]) -> Step {
    let ended: Vec<PodUid> = uids(members.iter().filter(|one| one.has_ended));
    if !ended.is_empty() {
        return Step::Delete(ended);
    }
    match shape.ordinals {
        Some(ordinals) => numbered(shape, ordinals, members),
        None => equal(shape, members),
    }
}

fn uids<'m>(members: impl Iterator<Item = &'m Member>) -> Vec<PodUid> {
    members.map(|one| one.uid.clone()).collect()
}

fn equal(shape: &Shape<'_>, members: &[Member]) -> Step {
    let wanted = shape.replicas as usize;
    let counts = |one: &&Member| one.is_current || shape.update == Update::OnDelete;
    let current: Vec<&Member> = members.iter().filter(counts).collect();
    let old: Vec<&Member> = members.iter().filter(|one| !counts(one)).collect();
    match shape.update {
        _ if old.is_empty() => {}
        Update::Recreate | Update::OnDelete => return Step::Delete(uids(old.into_iter())),
        Update::Rolling { surge, unavailable } => {
            return roll(
                wanted,
                (surge as usize, unavailable as usize),
                &current,
                &old,
            );
        }
    }
    match current.len().checked_sub(wanted) {
        None => Step::Start(wanted - current.len()),
        Some(0) => Step::Done,
        Some(surplus) => Step::Delete(least(current, surplus)),
    }
}

/// Those that are missed least: not ready, then young.
fn least(mut from: Vec<&Member>, count: usize) -> Vec<PodUid> {
    from.sort_by_key(|one| (one.is_ready, std::cmp::Reverse(one.created)));
    uids(from.into_iter().take(count))
}

fn roll(
    wanted: usize,
    (surge, unavailable): (usize, usize),
    current: &[&Member],
    old: &[&Member],
) -> Step {
    let room = (wanted + surge).saturating_sub(current.len() + old.len());
    let missing = wanted.saturating_sub(current.len());
    if room.min(missing) > 0 {
        return Step::Start(room.min(missing));
    }
    let ready = |of: &[&Member]| of.iter().filter(|one| one.is_ready).count();
    // An old one that is not ready is missed by nobody.
    let spare = (ready(current) + ready(old)).saturating_sub(wanted.saturating_sub(unavailable));
    let count = (old.len() - ready(old)) + spare.min(ready(old));
    match count {
        0 => Step::Await,
        count => Step::Delete(least(old.to_vec(), count)),
    }
}

fn numbered(shape: &Shape<'_>, ordinals: &Ordinals, members: &[Member]) -> Step {
    let wanted = ordinals.first..ordinals.first.saturating_add(shape.replicas);
    let highest = |of: &mut dyn Iterator<Item = &Member>| {
        let found = of.max_by_key(|one| one.ordinal);
        found.map(|one| Step::Delete(vec![one.uid.clone()]))
    };
    if let Some(step) = highest(&mut members.iter().filter(|one| !wanted.contains(&one.ordinal))) {
        return step;
    }
    let is_there = |ordinal: &u32| members.iter().any(|one| one.ordinal == *ordinal);
    let missing: Vec<u32> = wanted.filter(|ordinal| !is_there(ordinal)).collect();
    if let Some(first) = missing.first() {
        let before = |one: &&Member| one.ordinal < *first;
        return if !ordinals.in_order {
            Step::StartOrdinals(missing)
        } else if members.iter().filter(before).all(|one| one.is_ready) {
            Step::StartOrdinals(vec![*first])
        } else {
            Step::Await
        };
    }
    let is_old = |one: &&Member| !one.is_current && one.ordinal >= ordinals.partition;
    if shape.update == Update::OnDelete || !members.iter().any(|one| is_old(&one)) {
        return Step::Done;
    }
    // One at a time, the highest first, when those that are new already work.
    if members.iter().any(|one| one.is_current && !one.is_ready) {
        return Step::Await;
    }
    highest(&mut members.iter().filter(is_old)).unwrap_or(Step::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` current and ready, `-` current, `o` old and ready, `x` old, `e` ended.
    fn members(text: &str) -> Vec<Member> {
        let numbered = text.chars().zip(0u8..);
        numbered
            .map(|(c, at)| Member {
                uid: PodUid::from_random([at; 16]),
                is_current: "+-".contains(c),
                has_ended: c == 'e',
                is_ready: "+o".contains(c),
                created: u64::from(at),
                ordinal: u32::from(at),
            })
            .collect()
    }

    /// Which of the members are deleted, or what else is done.
    fn told(shape: &Shape<'_>, text: &str) -> String {
        let members = members(text);
        match step(shape, &members) {
            Step::Delete(uids) => {
                let places = uids.iter().map(|uid| {
                    let at = members.iter().position(|one| one.uid == *uid);
                    at.map_or("?".into(), |at| at.to_string())
                });
                format!("delete {}", places.collect::<Vec<_>>().join(","))
            }
            Step::Start(count) => format!("start {count}"),
            Step::StartOrdinals(which) => format!("start {which:?}"),
            Step::Await => "await".into(),
            Step::Done => "done".into(),
        }
    }

    #[test]
    fn equal_pods_are_started_and_removed() {
        let shape = |update| Shape {
            replicas: 3,
            update,
            ordinals: None,
        };
        let rolling = shape(Update::Rolling {
            surge: 1,
            unavailable: 0,
        });
        for (pods, next) in [
            ("", "start 3"),
            ("+-", "start 1"),
            ("+-+", "done"),
            // Not ready before ready, young before old.
            ("+++++", "delete 4,3"),
            ("-++++", "delete 0,4"),
            ("+e+", "delete 1"),
            // A new template: one more, then one less, and so on.
            ("ooo", "start 1"),
            ("ooo-", "await"),
            ("ooo+", "delete 2"),
            ("oo+", "start 1"),
            ("o++", "start 1"),
            ("o+++", "delete 0"),
            // One that does not work goes first, whatever else does.
            ("xoo-", "delete 0"),
        ] {
            assert_eq!(told(&rolling, pods), next, "{pods:?}");
        }
        assert_eq!(told(&shape(Update::Recreate), "ooo"), "delete 0,1,2");
        assert_eq!(told(&shape(Update::OnDelete), "ooo"), "done");
        assert_eq!(told(&shape(Update::OnDelete), "oo"), "start 1");
        let scarce = shape(Update::Rolling {
            surge: 0,
            unavailable: 1,
        });
        assert_eq!(told(&scarce, "ooo"), "delete 2");
        assert_eq!(told(&scarce, "oo"), "start 1");
        assert_eq!(told(&scarce, "oo-"), "await");
    }

    #[test]
    fn an_update_ends_from_wherever_it_begins() {
        for (surge, unavailable) in [(1, 0), (0, 1), (2, 3), (9, 9)] {
            let shape = Shape {
                replicas: 4,
                update: Update::Rolling { surge, unavailable },
                ordinals: None,
            };
            let mut pods = members("oxoeo-");
            let mut next_uid = 100u8;
            let mut steps = 0;
            loop {
                match step(&shape, &pods) {
                    Step::Done => break,
                    Step::Await => pods.iter_mut().for_each(|one| one.is_ready = true),
                    Step::Delete(uids) => pods.retain(|one| !uids.contains(&one.uid)),
                    Step::StartOrdinals(_) => unreachable!("they have no numbers"),
                    Step::Start(count) => {
                        for _ in 0..count {
                            next_uid += 1;
                            let mut fresh = members("-").remove(0);
                            fresh.uid = PodUid::from_random([next_uid; 16]);
                            pods.push(fresh);
                        }
                    }
                }
                assert!(pods.len() <= 6 + surge as usize, "{pods:?}");
                steps += 1;
                assert!(steps < 50, "{pods:?}");
            }
            assert_eq!(pods.len(), 4);
            assert!(pods.iter().all(|one| one.is_current));
        }
    }

    #[test]
    fn numbered_pods_come_and_go_in_order() {
        let ordinals = |in_order, partition| Ordinals {
            service: None,
            first: 0,
            in_order,
            partition,
            claims: Vec::new(),
            delete_claims: false,
            trim_claims: false,
        };
        let update = Update::Rolling {
            surge: 0,
            unavailable: 1,
        };
        let ordered = ordinals(true, 0);
        let shape = Shape {
            replicas: 3,
            update,
            ordinals: Some(&ordered),
        };
        for (pods, next) in [
            ("", "start [0]"),
            ("-", "await"),
            ("+", "start [1]"),
            ("++-", "done"),
            ("+++++", "delete 4"),
            ("ooo", "delete 2"),
            ("oo+", "delete 1"),
            ("oo-", "await"),
        ] {
            assert_eq!(told(&shape, pods), next, "{pods:?}");
        }
        let (parallel, part) = (ordinals(false, 0), ordinals(true, 2));
        let shape = |ordinals| Shape {
            replicas: 3,
            update,
            ordinals: Some(ordinals),
        };
        assert_eq!(told(&shape(&parallel), "-"), "start [1, 2]");
        assert_eq!(told(&shape(&part), "oo+"), "done");
    }
}
