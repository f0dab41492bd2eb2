//! Addresses as operators write them, and the arithmetic of subnets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use thiserror::Error;

use crate::{Family, Range};

/// The longest text of an address, `ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255`; anything
/// longer is refused before it is looked at.
const MAX_ADDRESS_LENGTH: usize = 45;

/// Why a text is not an address. The message shows what is wrong, [`AddressError::remedy`] what
/// to write instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AddressError {
    /// Nothing was given.
    #[error("the address is empty")]
    Empty,
    /// Longer than any address can be.
    #[error("the text is longer than any address ({MAX_ADDRESS_LENGTH} characters)")]
    TooLong,
    /// Blanks, or characters that no address has.
    #[error("the text has characters that no address has")]
    ForeignCharacter,
    /// A zone such as `%eth0`.
    #[error("the address has a zone")]
    Zone,
    /// A prefix length.
    #[error("the text is a subnet, not an address")]
    Prefix,
    /// Square brackets.
    #[error("the address is in brackets")]
    Brackets,
    /// `010.0.0.1` is octal to some programs and decimal to others.
    #[error("a part of the IPv4 address has a leading zero")]
    LeadingZero,
    /// `::ffff:a.b.c.d`.
    #[error("the address is IPv4 written as IPv6 (::ffff:{0})")]
    Mapped(Ipv4Addr),
    /// Anything else.
    #[error("the text is neither an IPv4 nor an IPv6 address")]
    Malformed,
}

impl AddressError {
    /// The stable name, for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "EMPTY",
            Self::TooLong => "TOO_LONG",
            Self::ForeignCharacter => "FOREIGN_CHARACTER",
            Self::Zone => "ZONE",
            Self::Prefix => "PREFIX",
            Self::Brackets => "BRACKETS",
            Self::LeadingZero => "LEADING_ZERO",
            Self::Mapped(_) => "IPV4_MAPPED",
            Self::Malformed => "MALFORMED",
        }
    }

    /// What the operator can do.
    pub fn remedy(self) -> String {
        match self {
            Self::Empty => "give an address such as 10.10.10.2 or fd00::2".into(),
            Self::Zone => "leave out the zone, the text from % on".into(),
            Self::Prefix => "give the prefix length in its own field".into(),
            Self::Brackets => "leave out the brackets".into(),
            Self::LeadingZero => "write every part in decimal without leading zeros".into(),
            Self::Mapped(address) => format!("write {address}"),
            Self::TooLong | Self::ForeignCharacter | Self::Malformed => {
                "write it like 10.10.10.2 or fd00::2, without blanks".into()
            }
        }
    }
}

/// Reads an address strictly: no blanks, zones, brackets, leading zeros, foreign digits or
/// IPv4-mapped IPv6. Addresses are compared as values from here on, never as text.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_address(text: &str) -> Result<IpAddr, AddressError> {
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    if text.len() > MAX_ADDRESS_LENGTH && text.is_ascii() && !text.contains(['%', '/']) {
        return Err(AddressError::TooLong);
    }
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => match address.to_ipv4_mapped() {
            Some(mapped) => Err(AddressError::Mapped(mapped)),
            None => Ok(IpAddr::V6(address)),
        },
        Ok(address) => Ok(address),
        Err(_) => Err(explain(text)),
    }
}

/// Says why the standard parser refused.
fn explain(text: &str) -> AddressError {
    if text.contains('%') {
        AddressError::Zone
    } else if text.contains('/') {
        AddressError::Prefix
    } else if text.starts_with('[') || text.ends_with(']') {
        AddressError::Brackets
    } else if text
        .chars()
        .any(|c| !c.is_ascii_hexdigit() && c != '.' && c != ':')
    {
        AddressError::ForeignCharacter
    } else if text.split('.').count() == 4 && text.split('.').all(|part| part.parse::<u8>().is_ok())
    {
        AddressError::LeadingZero
    } else {
        AddressError::Malformed
    }
}

/// The address after this one; `None` after the last of the family.
pub(crate) fn successor(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => address
            .to_bits()
            .checked_add(1)
            .map(Ipv4Addr::from_bits)
            .map(IpAddr::V4),
        IpAddr::V6(address) => address
            .to_bits()
            .checked_add(1)
            .map(Ipv6Addr::from_bits)
            .map(IpAddr::V6),
    }
}

/// The address before this one; `None` before the first of the family.
pub(crate) fn predecessor(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => address
            .to_bits()
            .checked_sub(1)
            .map(Ipv4Addr::from_bits)
            .map(IpAddr::V4),
        IpAddr::V6(address) => address
            .to_bits()
            .checked_sub(1)
            .map(Ipv6Addr::from_bits)
            .map(IpAddr::V6),
    }
}

/// The range that a pool gets when none is asked for: without the network address and without
/// the last address. The last address of an IPv6 subnet stays usable when it is named. `None`
/// for a subnet of fewer than four addresses.
pub(crate) fn default_range(subnet: IpNet) -> Option<Range> {
    let first = successor(subnet.network())?;
    let last = predecessor(subnet.broadcast())?;
    Range::new(first, last)
}

/// Why an address cannot belong to a pool of this subnet (I4), as the rest of the sentence
/// "ADDRESS ...".
pub(crate) fn unusable(subnet: IpNet, address: IpAddr) -> Option<String> {
    let family = Family::of_subnet(subnet);
    if Family::of(address) != family {
        return Some(format!(
            "is {}, but the subnet {subnet} is {family}",
            Family::of(address)
        ));
    }
    if !subnet.contains(&address) {
        return Some(format!("is outside the subnet {subnet}"));
    }
    if address == subnet.network() {
        return Some(format!("is the network address of {subnet}"));
    }
    if family == Family::Ipv4 && address == subnet.broadcast() {
        return Some(format!("is the broadcast address of {subnet}"));
    }
    None
}

/// Whether two subnets share an address.
pub(crate) fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_strictly() {
        let check = |text: &str, want: Result<&str, AddressError>| {
            let want = want.map(|value| value.parse().expect("a valid address"));
            assert_eq!(parse_address(text), want, "{text:?}");
        };
        check("10.0.0.1", Ok("10.0.0.1"));
        check("FD77::AB", Ok("fd77::ab"));
        check("fd00:0:0:0::1", Ok("fd00::1"));
        check("", Err(AddressError::Empty));
        check(" 10.0.0.1", Err(AddressError::ForeignCharacter));
        check("10.0.0.1\n", Err(AddressError::ForeignCharacter));
        check("010.0.0.1", Err(AddressError::LeadingZero));
        check("10.0.0", Err(AddressError::Malformed));
        check("10.300.0.0", Err(AddressError::Malformed));
        check("10.0.0.0/24", Err(AddressError::Prefix));
        check("fe80::1%eth0", Err(AddressError::Zone));
        check("[fd00::1]", Err(AddressError::Brackets));
        check(
            "::ffff:10.0.0.1",
            Err(AddressError::Mapped(Ipv4Addr::new(10, 0, 0, 1))),
        );
        check("\u{0661}0.0.0.1", Err(AddressError::ForeignCharacter));
        check(&"1".repeat(46), Err(AddressError::TooLong));
    }

    #[test]
    fn default_range_leaves_out_both_ends() {
        let check = |subnet: &str, want: Option<&str>| {
            let subnet = subnet.parse().expect("a valid subnet");
            assert_eq!(
                default_range(subnet)
                    .map(|range| range.to_string())
                    .as_deref(),
                want
            );
        };
        check("10.0.0.0/24", Some("10.0.0.1-10.0.0.254"));
        check("fd00::/126", Some("fd00::1-fd00::2"));
        check("fd00::/127", None);
        check("10.0.0.0/32", None);
    }
}
