//! Which addresses of a pool are taken, kept as merged intervals so that the lowest free one is
//! found in logarithmic time however many are allocated.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::address::successor;

/// A set of addresses of one family as disjoint, non-adjacent intervals: first to last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Taken {
    intervals: BTreeMap<IpAddr, IpAddr>,
}

impl Taken {
    /// The set of these addresses.
    pub(crate) fn of<'a>(addresses: impl Iterator<Item = &'a IpAddr>) -> Self {
        let mut taken = Self::default();
        for address in addresses {
            taken.insert(*address);
        }
        taken
    }

    /// The lowest address that is not in the set and not below `from`; `None` when the set
    /// reaches the end of the address space.
    pub(crate) fn first_free(&self, from: IpAddr) -> Option<IpAddr> {
        match self.interval_at(from) {
            Some((_, last)) => successor(last),
            None => Some(from),
        }
    }

    /// Adds an address; adding it twice is adding it once.
    pub(crate) fn insert(&mut self, address: IpAddr) {
        if self.interval_at(address).is_some() {
            return;
        }
        let next = successor(address);
        let last = next
            .and_then(|next| self.intervals.remove(&next))
            .unwrap_or(address);
        let below = self.intervals.range(..address).next_back();
        let first = match below {
            Some((first, end)) if successor(*end) == Some(address) => *first,
            _ => address,
        };
        self.intervals.insert(first, last);
    }

    fn interval_at(&self, address: IpAddr) -> Option<(IpAddr, IpAddr)> {
        let (first, last) = self.intervals.range(..=address).next_back()?;
        (address <= *last).then_some((*first, *last))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn address(number: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, number))
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_set(numbers in prop::collection::vec(0u8..24, 0..40)) {
            let mut taken = Taken::default();
            let mut plain = BTreeSet::new();
            for number in numbers {
                taken.insert(address(number));
                plain.insert(address(number));
                for from in 0..26 {
                    let want = (from..=255).map(address).find(|a| !plain.contains(a));
                    prop_assert_eq!(taken.first_free(address(from)), want);
                }
            }
            prop_assert_eq!(taken, Taken::of(plain.iter()));
        }
    }

    #[test]
    fn the_end_of_the_address_space_is_not_an_error() {
        let last = IpAddr::V4(Ipv4Addr::BROADCAST);
        let taken = Taken::of([last].iter());
        assert_eq!(taken.first_free(last), None);
    }
}
