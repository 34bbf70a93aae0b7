//! Who may keep the resolver waiting: so many in all, and of each pod a few, so that none
//! keeps the others from being answered.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

/// Most at once.
const ALL: usize = 128;

/// Most at once of one address.
const EACH: usize = 16;

/// Turns that are taken, by who has them.
#[derive(Debug, Default)]
pub struct Turns(RefCell<HashMap<IpAddr, usize>>);

/// A turn, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    turns: Rc<Turns>,
    whose: IpAddr,
}

impl Turns {
    /// A turn for who asks from there; none when it has its share, or all are taken.
    pub fn take(self: &Rc<Self>, whose: IpAddr) -> Option<Turn> {
        let mut taken = self.0.borrow_mut();
        let all: usize = taken.values().sum();
        let own = taken.get(&whose).copied().unwrap_or(0);
        if all >= ALL || own >= EACH {
            return None;
        }
        taken.insert(whose, own + 1);
        Some(Turn {
            turns: Rc::clone(self),
            whose,
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = self.turns.0.borrow_mut();
        if let Some(own) = taken.get_mut(&self.whose) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.whose);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_the_turns_of_all() {
        let turns = Rc::new(Turns::default());
        let pod = |last: u8| IpAddr::from([10, 88, 0, last]);
        let greedy: Vec<Turn> = std::iter::from_fn(|| turns.take(pod(2))).collect();
        assert_eq!(greedy.len(), EACH);
        let other = turns.take(pod(3));
        assert!(other.is_some());
        drop(greedy);
        drop(other);
        assert!(turns.0.borrow().is_empty());
        let everybody: Vec<Turn> = (2..=254).filter_map(|last| turns.take(pod(last))).collect();
        assert_eq!(everybody.len(), ALL);
    }
}
