//! What makes one pool right or wrong by itself: name, subnet, ranges, named addresses (I4).

use std::fmt::Display;
use std::net::IpAddr;

use ipnet::IpNet;
use uuid::Uuid;

use crate::address::{parse_address, unusable};
use crate::{
    AddressRole, Addresses, Family, MAX_VIOLATIONS, Order, Range, RangeInput, Reason, Violation,
};

/// Names are shown in tables and stored in records; this is the bound of the existing system.
pub const MAX_NAME_LENGTH: usize = 128;

/// The longest name of a subcloud: that of a host name's label, which it often becomes.
const MAX_FLEET_NAME: usize = 63;

/// The most ranges of one pool. Rules look at every range, so their number must be bounded; a
/// pool with more holes than this is better split.
pub const MAX_RANGES: usize = 256;

/// The longest prefix that leaves four addresses.
fn longest_prefix(family: Family) -> u8 {
    match family {
        Family::Ipv4 => 30,
        Family::Ipv6 => 126,
    }
}

/// A wrong field of a request or of a record.
pub(crate) fn invalid(
    field: impl Into<String>,
    message: impl Into<String>,
    remedy: impl Into<String>,
) -> Violation {
    Violation::new(Reason::InvalidArgument, message, remedy).at(field)
}

/// A text that is not an address.
pub(crate) fn read_address(field: &str, text: &str, faults: &mut Vec<Violation>) -> Option<IpAddr> {
    match parse_address(text) {
        Ok(address) => Some(address),
        Err(error) => {
            let shown: String = text.chars().take(64).collect();
            let message = format!("{field} {shown:?}: {error}");
            let fault = invalid(field, message, error.remedy());
            faults.push(fault.fact("addressFault", error.name()));
            None
        }
    }
}

/// The faults of a name of a pool or a network. As everywhere here, the path of the field is
/// written only when there is a fault: every report of every site is judged.
pub(crate) fn name_fault(field: impl Display, name: &str) -> Option<Violation> {
    let fault = |message: String, remedy: String| Some(invalid(field.to_string(), message, remedy));
    let remedy = || format!("give a name of 1 to {MAX_NAME_LENGTH} characters");
    let length = name.chars().count();
    if name.is_empty() {
        return fault(format!("{field} is empty"), remedy());
    }
    if length > MAX_NAME_LENGTH {
        return fault(format!("{field} has {length} characters"), remedy());
    }
    if name.chars().any(char::is_control) || name.trim() != name {
        let message = format!("{field} {name:?} has control characters or blanks at its ends");
        return fault(message, "leave them out".to_owned());
    }
    None
}

/// The faults of a name that is given now. What exists keeps its name.
pub(crate) fn new_name_fault(field: &str, name: &str) -> Option<Violation> {
    let fault = |what: &str, remedy: &str| {
        let message = format!("{field} {name:?} {what}");
        Some(invalid(field, message, remedy))
    };
    if let Some(fault) = name_fault(field, name) {
        return Some(fault);
    }
    if Uuid::try_parse(name).is_ok() {
        return fault(
            "reads as a uuid, and names and uuids are used in the same place",
            "give a name that is no uuid",
        );
    }
    if name.starts_with('-') {
        return fault(
            "begins with '-', which reads as an option on a command line",
            "begin it with another character",
        );
    }
    if name.contains(confusing) {
        return fault(
            "has invisible characters, backquotes, or blanks other than the space",
            "leave them out",
        );
    }
    None
}

/// What makes a name look like another one, or like a part of the text around it.
fn confusing(character: char) -> bool {
    let format = matches!(
        character,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
    );
    format || character == '`' || (character.is_whitespace() && character != ' ')
}

/// What is wrong with a name by which the fleet shall know a site, a group or a peer, and `None`
/// when it can be typed, listed, and told from a uuid: 1 to 63 letters, digits, `-`, `_` and `.`,
/// beginning with a letter or a digit.
pub fn fleet_name_problem(name: &str) -> Option<&'static str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() {
        Some("is empty")
    } else if name.len() > MAX_FLEET_NAME {
        Some("is longer than 63 characters")
    } else if !name.bytes().all(plain) {
        Some("has characters other than letters, digits, '-', '_' and '.'")
    } else if !name.as_bytes()[0].is_ascii_alphanumeric() {
        Some("begins with something else than a letter or a digit")
    } else if Uuid::try_parse(name).is_ok() {
        Some("reads as a uuid, and names and uuids are used in the same place")
    } else {
        None
    }
}

/// Reads `random`, `sequential` or the empty default.
pub(crate) fn read_order(field: &str, text: &str, faults: &mut Vec<Violation>) -> Order {
    match text {
        "" | "random" => Order::Random,
        "sequential" => Order::Sequential,
        _ => {
            let shown: String = text.chars().take(64).collect();
            let message = format!("{field} {shown:?} is not an order");
            faults.push(invalid(field, message, "give random or sequential"));
            Order::Random
        }
    }
}

/// Makes a subnet of a parsed network address and a prefix length.
pub(crate) fn make_subnet(
    network: IpAddr,
    prefix: u32,
    faults: &mut Vec<Violation>,
) -> Option<IpNet> {
    let subnet = u8::try_from(prefix)
        .ok()
        .and_then(|prefix| IpNet::new(network, prefix).ok());
    let Some(subnet) = subnet else {
        let family = Family::of(network);
        let message = format!("prefix {prefix} is no {family} prefix length");
        let remedy = format!("give at most {}", longest_prefix(family));
        faults.push(invalid("prefix", message, remedy));
        return None;
    };
    let found = subnet_faults("", subnet);
    let sound = found.is_empty();
    faults.extend(found);
    sound.then_some(subnet)
}

/// The faults of a subnet; fields are `network` and `prefix` behind `path`.
pub(crate) fn subnet_faults(path: impl Display, subnet: IpNet) -> Vec<Violation> {
    let mut faults = Vec::new();
    let family = Family::of_subnet(subnet);
    if subnet.addr().is_unspecified() || subnet.network().is_unspecified() {
        let message = format!("the network {subnet} is unspecified: it begins at zero");
        faults.push(invalid(
            format!("{path}network"),
            message,
            "give a network of your own with its prefix length",
        ));
    } else if subnet.addr() != subnet.network() {
        let message = format!("{subnet} has bits of a host set");
        let remedy = format!("give {} for this prefix length", subnet.network());
        faults.push(invalid(format!("{path}network"), message, remedy));
    }
    if subnet.prefix_len() > longest_prefix(family) {
        let message = format!("{subnet} has fewer than four addresses");
        let remedy = format!("give a prefix of at most {}", longest_prefix(family));
        faults.push(invalid(format!("{path}prefix"), message, remedy));
    }
    faults
}

/// Reads the ends of ranges; each fault names the end, such as `ranges[1].first`.
pub(crate) fn read_ranges(
    ranges: &[RangeInput],
    faults: &mut Vec<Violation>,
) -> Vec<(IpAddr, IpAddr)> {
    if ranges.len() > MAX_RANGES {
        faults.push(too_many_ranges("ranges", ranges.len()));
        return Vec::new();
    }
    let mut pairs = Vec::with_capacity(ranges.len());
    for (index, range) in ranges.iter().enumerate() {
        let first = read_address(&format!("ranges[{index}].first"), &range.first, faults);
        let last = read_address(&format!("ranges[{index}].last"), &range.last, faults);
        pairs.extend(first.zip(last));
    }
    pairs
}

fn too_many_ranges(field: impl Into<String>, count: usize) -> Violation {
    let message = format!("{count} ranges, more than {MAX_RANGES}");
    invalid(field, message, "join ranges, or split the pool")
}

/// The faults of ranges within their subnet; `path` comes before `ranges[1]`.
pub(crate) fn range_faults(
    path: impl Display,
    subnet: IpNet,
    ranges: &[(IpAddr, IpAddr)],
) -> Vec<Violation> {
    range_faults_where(path, ranges, |address| unusable(subnet, address))
}

/// The faults of ranges and named addresses whose subnet is wrong itself: everything about them
/// that is wrong whatever the subnet will be, and that they are of another family than `network`.
pub(crate) fn faults_without_subnet(
    network: Option<IpAddr>,
    ranges: &[(IpAddr, IpAddr)],
    addresses: &Addresses,
) -> Vec<Violation> {
    let foreign = |address: IpAddr| {
        let (family, own) = (Family::of(network?), Family::of(address));
        (family != own).then(|| format!("is {own}, but the network is {family}"))
    };
    let mut faults = range_faults_where("", ranges, foreign);
    faults.extend(address_faults_where("", addresses, foreign));
    faults
}

fn range_faults_where(
    path: impl Display,
    ranges: &[(IpAddr, IpAddr)],
    unusable: impl Fn(IpAddr) -> Option<String>,
) -> Vec<Violation> {
    if ranges.len() > MAX_RANGES {
        return vec![too_many_ranges(format!("{path}ranges"), ranges.len())];
    }
    let mut faults = Vec::new();
    for (index, (first, last)) in ranges.iter().enumerate() {
        if faults.len() > MAX_VIOLATIONS {
            break; // every two may overlap, and no more are listed
        }
        let mut fault = |end: &str, message: String, remedy: &str| {
            let field = format!("{path}ranges[{index}]{end}");
            let message = format!("range {first}-{last}: {message}");
            faults.push(invalid(field, message, remedy));
        };
        let inside = "give addresses of the subnet between its network address and its end";
        if let Some(why) = unusable(*first) {
            fault(".first", format!("{first} {why}"), inside);
        }
        if let Some(why) = unusable(*last) {
            fault(".last", format!("{last} {why}"), inside);
        }
        if first.is_ipv4() == last.is_ipv4() && first > last {
            fault(
                "",
                "its end is below its start".into(),
                "swap the two addresses",
            );
        }
        for (other, (from, to)) in ranges.iter().enumerate().take(index) {
            let met = Range::new(*first, *last).zip(Range::new(*from, *to));
            if met.is_some_and(|(one, two)| one.overlaps(&two)) {
                fault(
                    "",
                    format!("it overlaps ranges[{other}], {from}-{to}"),
                    "join the two",
                );
            }
        }
    }
    faults
}

/// The faults of named addresses by themselves (I4): all usable, no two equal.
pub(crate) fn address_faults(
    path: impl Display,
    subnet: IpNet,
    addresses: &Addresses,
) -> Vec<Violation> {
    address_faults_where(path, addresses, |address| unusable(subnet, address))
}

fn address_faults_where(
    path: impl Display,
    addresses: &Addresses,
    unusable: impl Fn(IpAddr) -> Option<String>,
) -> Vec<Violation> {
    let mut faults = Vec::new();
    let named: Vec<_> = addresses.iter().collect();
    for (index, (role, address)) in named.iter().enumerate() {
        let mut fault = |message: String, remedy: &str| {
            faults.push(invalid(format!("{path}{}", role.field()), message, remedy));
        };
        if let Some(why) = unusable(*address) {
            let message = format!("{} {address} {why}", role.field());
            fault(message, "give a usable address of the subnet");
        }
        if let Some((first, _)) = named[..index].iter().find(|(_, other)| other == address) {
            let message = format!("{} and {} are both {address}", first.field(), role.field());
            fault(message, "give each its own address, or none");
        }
    }
    faults
}

/// The faults of floating and controller addresses outside the ranges of their pool: any one
/// of the ranges is enough, and the gateway is exempt. Unusable addresses are left to
/// [`address_faults`].
pub(crate) fn outside_ranges(
    subnet: IpNet,
    ranges: &[(IpAddr, IpAddr)],
    named: impl Iterator<Item = (AddressRole, IpAddr)>,
) -> Vec<Violation> {
    let outside = named.filter(|(role, address)| {
        let mut ranges = ranges.iter();
        *role != AddressRole::Gateway
            && unusable(subnet, *address).is_none()
            && !ranges.any(|(first, last)| first <= address && address <= last)
    });
    let faults = outside.map(|(role, address)| {
        let message = format!("{} {address} is outside the ranges", role.field());
        invalid(
            role.field(),
            message,
            "give an address of a range, or wider ranges",
        )
    });
    faults.collect()
}
