//! Address templates: the fields of a pool with placeholders for what differs by subcloud.
//!
//! ```yaml
//! first_index: 1
//! name: admin-ipv6
//! subnet_within: fd00:10::/48
//! subnet_length: 64
//! floating_address: "{subnet+2}"
//! ```
//!
//! Placeholders are `{index}` (decimal), `{index:x}` (hexadecimal, for IPv6), `{name}`, and, once
//! the subnet is known, `{subnet}` (its network address) and `{subnet+N}` (N addresses behind it).
//! `subnet_within` with `subnet_length` carves: subnet number `subnet_number` (else `{index}`) of
//! that length.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use site::bootstrap::{self, Line, Placed};
use site::{PoolEdit, RangeInput};

use crate::{Reason, Violation};

/// The largest template: it has a dozen lines, and comments.
pub const MAX_TEMPLATE_BYTES: usize = 64 * 1024;

/// What the request calls the file.
const FIELD: &str = "template";

/// The fields of a pool as patterns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    first_index: u64,
    subnet: Option<SubnetPattern>,
    fields: BTreeMap<PoolField, Vec<Pattern>>,
}

/// Where the subnet comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum SubnetPattern {
    /// Written out, with its prefix length.
    Written(Pattern),
    /// Carved out of a larger one.
    Carved {
        within: IpNet,
        length: u8,
        number: Pattern,
    },
}

/// The other fields, as templates and tables call them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PoolField {
    Name,
    Order,
    Ranges,
    Floating,
    Controller0,
    Controller1,
    Gateway,
}

/// A text with placeholders, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    pieces: Vec<Piece>,
    line: usize,
    column: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Index { hexadecimal: bool },
    Name,
    Subnet { plus: u128 },
}

/// What the placeholders stand for.
struct Values<'a> {
    index: u64,
    name: &'a str,
    subnet: Option<IpNet>,
}

impl PoolField {
    pub(super) const ALL: [Self; 7] = [
        Self::Name,
        Self::Order,
        Self::Ranges,
        Self::Floating,
        Self::Controller0,
        Self::Controller1,
        Self::Gateway,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Order => "order",
            Self::Ranges => "ranges",
            Self::Floating => "floating_address",
            Self::Controller0 => "controller0_address",
            Self::Controller1 => "controller1_address",
            Self::Gateway => "gateway_address",
        }
    }

    /// Puts texts into a pool; `none` clears an address, or leaves it out of a new pool.
    ///
    /// # Errors
    /// What is wrong with a range.
    pub(super) fn set(self, edit: &mut PoolEdit, texts: Vec<String>) -> Result<(), String> {
        if self == Self::Ranges {
            let ranges: Result<Vec<_>, _> = texts.iter().map(|text| range(text)).collect();
            edit.ranges = Some(ranges?);
            return Ok(());
        }
        let text = texts.into_iter().next().unwrap_or_default();
        let address = if text == "none" {
            String::new()
        } else {
            text.clone()
        };
        match self {
            Self::Name => edit.name = Some(text),
            Self::Order => edit.order = Some(text),
            Self::Floating => edit.floating_address = Some(address),
            Self::Controller0 => edit.controller0_address = Some(address),
            Self::Controller1 => edit.controller1_address = Some(address),
            Self::Gateway => edit.gateway_address = Some(address),
            Self::Ranges => {}
        }
        Ok(())
    }
}

fn range(text: &str) -> Result<RangeInput, String> {
    let (first, last) = text
        .split_once('-')
        .ok_or_else(|| format!("{text:?} is no range such as fd01::2-fd01::ff"))?;
    Ok(RangeInput {
        first: first.trim().to_owned(),
        last: last.trim().to_owned(),
    })
}

/// A subnet with its prefix length, host bits allowed: the site's rules judge those.
pub(super) fn set_subnet(edit: &mut PoolEdit, text: &str) -> Result<IpNet, String> {
    let problem = || format!("{text:?} is no subnet with a prefix length, such as fd01::/64");
    let subnet: IpNet = text.parse().map_err(|_| problem())?;
    edit.network = Some(subnet.addr().to_string());
    edit.prefix = Some(u32::from(subnet.prefix_len()));
    Ok(subnet)
}

impl Template {
    /// Reads a template. Every fault has its place (`line`, `column`).
    ///
    /// # Errors
    /// Every fault.
    pub fn read(bytes: &[u8]) -> Result<Self, Vec<Violation>> {
        if bytes.len() > MAX_TEMPLATE_BYTES {
            let message = format!("the template has more than {MAX_TEMPLATE_BYTES} bytes");
            let remedy = "give the file with the fields of one pool";
            let fault = Violation::new(Reason::InvalidArgument, message, remedy);
            return Err(vec![fault.at(FIELD)]);
        }
        let (lines, unreadable) = bootstrap::lines(FIELD, bytes);
        let mut faults: Vec<Violation> = unreadable
            .iter()
            .flat_map(|faults| faults.faults())
            .map(form_fault)
            .collect();
        let mut reading = Reading::new(lines, &mut faults);
        let template = Self {
            first_index: reading.first_index(),
            subnet: reading.subnet(),
            fields: reading.fields(),
        };
        reading.unknown();
        if faults.is_empty() {
            Ok(template)
        } else {
            faults.sort_by_key(place_of);
            Err(faults)
        }
    }

    /// The number of the first subcloud.
    pub fn first_index(&self) -> u64 {
        self.first_index
    }

    /// Whether it says what a new pool needs: a name and a subnet.
    ///
    /// # Errors
    /// Each that is missing.
    pub fn complete(&self) -> Result<(), Vec<Violation>> {
        let missing = [
            (!self.fields.contains_key(&PoolField::Name), "name"),
            (self.subnet.is_none(), "subnet"),
        ];
        let faults: Vec<_> = missing
            .into_iter()
            .filter(|(is_missing, _)| *is_missing)
            .map(|(_, field)| {
                Violation::new(
                    Reason::InvalidArgument,
                    format!("the template has no {field}, which a new pool needs"),
                    format!("add a line `{field}: …`; deploy/examples has a template"),
                )
                .at(FIELD)
                .fact("variable", field)
            })
            .collect();
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults)
        }
    }

    /// The fields of the pool of one subcloud.
    ///
    /// # Errors
    /// Every placeholder that has no value for this subcloud, and what came of it.
    pub fn expand(&self, index: u64, name: &str) -> Result<PoolEdit, Vec<Violation>> {
        let mut faults = Vec::new();
        let mut edit = PoolEdit::default();
        let mut values = Values {
            index,
            name,
            subnet: None,
        };
        if let Some(pattern) = &self.subnet {
            match pattern.expand(&values, &mut edit) {
                Ok(subnet) => values.subnet = Some(subnet),
                Err(fault) => faults.push(*fault),
            }
        }
        // Without a subnet the rest could only repeat that fault.
        if faults.is_empty() {
            for (field, patterns) in &self.fields {
                let texts: Result<Vec<_>, _> = patterns
                    .iter()
                    .map(|pattern| pattern.expand(&values))
                    .collect();
                match texts {
                    Ok(texts) => {
                        if let Err(problem) = field.set(&mut edit, texts) {
                            let place = patterns.first().map_or((1, 1), Pattern::place);
                            faults.push(fault(place, problem, "write FIRST-LAST"));
                        }
                    }
                    Err(fault) => faults.push(*fault),
                }
            }
        }
        if faults.is_empty() {
            Ok(edit)
        } else {
            Err(faults
                .into_iter()
                .map(|fault| fault.object("subcloud", name))
                .collect())
        }
    }
}

impl SubnetPattern {
    fn expand(&self, values: &Values<'_>, edit: &mut PoolEdit) -> Result<IpNet, Box<Violation>> {
        match self {
            Self::Written(pattern) => {
                let text = pattern.expand(values)?;
                let remedy = "write ADDRESS/LENGTH with placeholders";
                let place = pattern.place();
                let subnet = set_subnet(edit, &text);
                Ok(subnet.map_err(|problem| fault(place, problem, remedy))?)
            }
            Self::Carved {
                within,
                length,
                number,
            } => {
                let text = number.expand(values)?;
                let remedy = "write a whole number, such as {index}";
                let wanted: u128 = text.parse().map_err(|_| {
                    fault(
                        number.place(),
                        format!("{text:?} is no number of a subnet"),
                        remedy,
                    )
                })?;
                let subnet = carve(*within, *length, wanted).ok_or_else(|| {
                    let message = format!("{within} has no /{length} number {wanted}");
                    let remedy = "take a shorter prefix to carve from, or a longer subnet_length";
                    fault(number.place(), message, remedy).fact("number", wanted)
                })?;
                edit.network = Some(subnet.network().to_string());
                edit.prefix = Some(u32::from(*length));
                Ok(subnet)
            }
        }
    }
}

/// Subnet `number` of `length` within a larger one; `None` beyond its end.
fn carve(within: IpNet, length: u8, number: u128) -> Option<IpNet> {
    let spare = u32::from(length.checked_sub(within.prefix_len())?);
    // 2^128 subnets of one address each are as many as there are numbers.
    if spare < 128 && number >> spare != 0 {
        return None;
    }
    let bits = u32::from(within.max_prefix_len() - length);
    let offset = number.checked_shl(bits).unwrap_or(0);
    let network = plus(within.network(), offset)?;
    IpNet::new(network, length).ok()
}

/// The address `offset` behind another; `None` beyond the last of its family.
fn plus(address: IpAddr, offset: u128) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => {
            let offset = u32::try_from(offset).ok()?;
            Some(IpAddr::from(
                v4.to_bits().checked_add(offset)?.to_be_bytes(),
            ))
        }
        IpAddr::V6(v6) => Some(IpAddr::from(
            v6.to_bits().checked_add(offset)?.to_be_bytes(),
        )),
    }
}

impl Pattern {
    fn place(&self) -> (usize, usize) {
        (self.line, self.column)
    }

    fn expand(&self, values: &Values<'_>) -> Result<String, Box<Violation>> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Index { hexadecimal: false } => text.push_str(&values.index.to_string()),
                Piece::Index { hexadecimal: true } => text += &format!("{:x}", values.index),
                Piece::Name => text.push_str(values.name),
                Piece::Subnet { plus } => text += &self.address(values, *plus)?.to_string(),
            }
        }
        Ok(text)
    }

    fn address(&self, values: &Values<'_>, offset: u128) -> Result<IpAddr, Box<Violation>> {
        let Some(subnet) = values.subnet else {
            let remedy = "add `subnet`, or write the address out";
            let message = "{subnet} is used, but there is no subnet";
            return Err(Box::new(fault(self.place(), message, remedy)));
        };
        let address = plus(subnet.network(), offset).filter(|address| subnet.contains(address));
        Ok(address.ok_or_else(|| {
            let message = format!("{subnet} has no address {offset} behind its first");
            fault(self.place(), message, "take a smaller number in {subnet+N}")
        })?)
    }

    /// Reads a text with placeholders; `carving` allows only those that need no subnet.
    fn read(placed: &Placed, carving: bool) -> Result<Self, Vec<Violation>> {
        let (mut pieces, mut faults) = (Vec::new(), Vec::new());
        let (mut rest, mut column) = (placed.text.as_str(), placed.column);
        while !rest.is_empty() {
            let end = match rest.find('{') {
                Some(0) => {
                    let end = rest.find('}').map_or(rest.len(), |end| end + 1);
                    match placeholder(&rest[..end], carving) {
                        Ok(piece) => pieces.push(piece),
                        Err((message, remedy)) => {
                            faults.push(fault((placed.line, column), message, remedy));
                        }
                    }
                    end
                }
                Some(next) => next,
                None => rest.len(),
            };
            if !rest.starts_with('{') {
                pieces.push(Piece::Text(rest[..end].to_owned()));
            }
            column += rest[..end].chars().count();
            rest = &rest[end..];
        }
        let pattern = Self {
            pieces,
            line: placed.line,
            column: placed.column,
        };
        if faults.is_empty() {
            Ok(pattern)
        } else {
            Err(faults)
        }
    }
}

fn placeholder(text: &str, carving: bool) -> Result<Piece, (String, &'static str)> {
    const KNOWN: &str = "the placeholders are {index}, {index:x}, {name}, {subnet} and {subnet+N}";
    let Some(inner) = text
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
    else {
        return Err((format!("{text:?} has no closing brace"), KNOWN));
    };
    let piece = match inner {
        "index" => Piece::Index { hexadecimal: false },
        "index:x" => Piece::Index { hexadecimal: true },
        "name" => Piece::Name,
        "subnet" => Piece::Subnet { plus: 0 },
        _ => {
            let plus = inner
                .strip_prefix("subnet+")
                .and_then(|plus| plus.parse().ok());
            match plus {
                Some(plus) => Piece::Subnet { plus },
                None => return Err((format!("there is no placeholder {text}"), KNOWN)),
            }
        }
    };
    if carving && matches!(piece, Piece::Subnet { .. }) {
        let message = format!("{text} cannot be used in the subnet itself");
        return Err((message, "use {index}, {index:x} or {name} here"));
    }
    Ok(piece)
}

/// Takes the lines of a template one by one; what is left is unknown.
struct Reading<'f> {
    lines: BTreeMap<String, Line>,
    faults: &'f mut Vec<Violation>,
}

impl<'f> Reading<'f> {
    fn new(all: Vec<Line>, faults: &'f mut Vec<Violation>) -> Self {
        let mut lines: BTreeMap<String, Line> = BTreeMap::new();
        for line in all {
            let place = (line.name.line, line.name.column);
            if let Some(first) = lines.get(&line.name.text) {
                let message = format!(
                    "{} is set in line {} already",
                    line.name.text, first.name.line
                );
                faults.push(fault(place, message, "keep one of the two lines"));
            } else if line.values.is_empty() {
                let message = format!("{} has no value", line.name.text);
                faults.push(fault(place, message, "write the value, or remove the line"));
                // It stays known, so that it is not missed as well.
                lines.insert(line.name.text.clone(), line);
            } else {
                lines.insert(line.name.text.clone(), line);
            }
        }
        Self { lines, faults }
    }

    /// The one value of a line.
    fn text(&mut self, name: &str) -> Option<Placed> {
        let line = self.lines.remove(name)?;
        if line.is_list {
            let place = (line.name.line, line.name.column);
            let message = format!("{name} is a list");
            self.faults.push(fault(place, message, "write one value"));
            return None;
        }
        line.values.into_iter().next()
    }

    fn first_index(&mut self) -> u64 {
        let Some(placed) = self.text("first_index") else {
            return 0;
        };
        placed.text.parse().unwrap_or_else(|_| {
            let message = format!("first_index {:?} is no whole number", placed.text);
            self.faults
                .push(fault((placed.line, placed.column), message, "write 0 or 1"));
            0
        })
    }

    fn subnet(&mut self) -> Option<SubnetPattern> {
        let written = self.text("subnet");
        let within = self.text("subnet_within");
        let length = self.text("subnet_length");
        let number = self.text("subnet_number");
        if let Some(written) = written {
            let extra = [&within, &length, &number].into_iter().flatten().next();
            if let Some(extra) = extra {
                let message = "subnet is written out and carved at the same time";
                let remedy = "keep subnet, or subnet_within with subnet_length";
                self.faults
                    .push(fault((extra.line, extra.column), message, remedy));
            }
            return self.pattern(&written, true).map(SubnetPattern::Written);
        }
        let (Some(within), Some(length)) = (&within, &length) else {
            if let Some(alone) = within.or(length).or(number) {
                let message = "carving needs subnet_within and subnet_length";
                let remedy = "write both, such as fd00:10::/48 and 64";
                self.faults
                    .push(fault((alone.line, alone.column), message, remedy));
            }
            return None;
        };
        let index = Pattern {
            pieces: vec![Piece::Index { hexadecimal: false }],
            line: length.line,
            column: length.column,
        };
        let number = match &number {
            Some(number) => self.pattern(number, true),
            None => Some(index),
        };
        self.carved(within, length, number)
    }

    fn carved(
        &mut self,
        within: &Placed,
        length: &Placed,
        number: Option<Pattern>,
    ) -> Option<SubnetPattern> {
        let subnet: Option<IpNet> = within.text.parse().ok().filter(|n: &IpNet| n.trunc() == *n);
        if subnet.is_none() {
            let message = format!("subnet_within {:?} is no subnet", within.text);
            let remedy = "write it with its prefix length and without host bits: fd00:10::/48";
            self.faults
                .push(fault((within.line, within.column), message, remedy));
        }
        let bits: Option<u8> = length.text.parse().ok();
        let fits =
            |bits: &u8| subnet.is_none_or(|s| (s.prefix_len()..=s.max_prefix_len()).contains(bits));
        if bits.filter(fits).is_none() {
            let message = format!(
                "subnet_length {:?} does not fit {}",
                length.text, within.text
            );
            let remedy = "write a prefix length between that of subnet_within and the longest";
            self.faults
                .push(fault((length.line, length.column), message, remedy));
        }
        Some(SubnetPattern::Carved {
            within: subnet?,
            length: bits.filter(fits)?,
            number: number?,
        })
    }

    fn fields(&mut self) -> BTreeMap<PoolField, Vec<Pattern>> {
        let mut fields = BTreeMap::new();
        for field in PoolField::ALL {
            let values = if field == PoolField::Ranges {
                self.lines.remove(field.name()).map(|line| line.values)
            } else {
                self.text(field.name()).map(|value| vec![value])
            };
            let Some(values) = values else { continue };
            let patterns: Vec<_> = values
                .iter()
                .filter_map(|value| self.pattern(value, false))
                .collect();
            fields.insert(field, patterns);
        }
        fields
    }

    fn pattern(&mut self, placed: &Placed, carving: bool) -> Option<Pattern> {
        match Pattern::read(placed, carving) {
            Ok(pattern) => Some(pattern),
            Err(faults) => {
                self.faults.extend(faults);
                None
            }
        }
    }

    fn unknown(&mut self) {
        for line in std::mem::take(&mut self.lines).into_values() {
            let fields = PoolField::ALL.map(PoolField::name).join(", ");
            let remedy = format!(
                "write first_index, subnet, subnet_within, subnet_length, subnet_number, {fields}"
            );
            let message = format!("a template has no {:?}", line.name.text);
            self.faults
                .push(fault((line.name.line, line.name.column), message, remedy));
        }
    }
}

/// A fault with its place.
fn fault(
    (line, column): (usize, usize),
    message: impl AsRef<str>,
    remedy: impl Into<String>,
) -> Violation {
    let message = format!("line {line}, column {column}: {}", message.as_ref());
    Violation::new(Reason::InvalidArgument, message, remedy)
        .at(FIELD)
        .fact("line", line)
        .fact("column", column)
}

/// A fault of the form of the file.
fn form_fault(form: &bootstrap::Fault) -> Violation {
    let place = form
        .place()
        .map_or((1, 1), |place| (place.line, place.column));
    fault(place, &form.message, form.remedy.clone())
        .fact("form", site::ReasonSet::name(form.reason))
}

fn place_of(violation: &Violation) -> (usize, usize) {
    let number = |key| {
        violation
            .metadata
            .get(key)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    };
    (number("line"), number("column"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Template {
        Template::read(text.as_bytes()).unwrap_or_else(|faults| panic!("{faults:#?}"))
    }

    fn messages(faults: &[Violation]) -> Vec<&str> {
        faults.iter().map(|fault| fault.message.as_str()).collect()
    }

    #[test]
    fn placeholders_stand_for_index_name_and_subnet() {
        let template = read(
            "first_index: 1\nname: \"{name}-admin6\"\nsubnet_within: fd00:10::/48\n\
             subnet_length: 64\nranges: [\"{subnet+16}-{subnet+4095}\"]\n\
             floating_address: \"{subnet+16}\"\ngateway_address: none\n",
        );
        assert_eq!(template.first_index(), 1);
        template.complete().unwrap();
        let pool = template.expand(258, "west").unwrap();
        assert_eq!(pool.name.as_deref(), Some("west-admin6"));
        assert_eq!(pool.network.as_deref(), Some("fd00:10:0:102::"));
        assert_eq!(pool.prefix, Some(64));
        let ranges = pool.ranges.unwrap();
        assert_eq!(ranges[0].first, "fd00:10:0:102::10");
        assert_eq!(ranges[0].last, "fd00:10:0:102::fff");
        assert_eq!(pool.floating_address.as_deref(), Some("fd00:10:0:102::10"));
        assert_eq!(pool.gateway_address.as_deref(), Some(""));
    }

    #[test]
    fn a_subnet_is_written_with_the_index_in_its_own_notation() {
        let check = |subnet: &str, index: u64, expected: &str| {
            let pool = read(&format!("subnet: \"{subnet}\"\n"))
                .expand(index, "s")
                .unwrap();
            let made = format!("{}/{}", pool.network.unwrap(), pool.prefix.unwrap());
            assert_eq!(made, expected);
        };
        check("10.{index}.0.0/24", 12, "10.12.0.0/24");
        check("fd01:{index:x}::/64", 12, "fd01:c::/64");
        check("fd01:{index}::/64", 12, "fd01:12::/64");
    }

    #[test]
    fn carving_counts_and_ends_with_the_prefix() {
        let check = |within: &str, length: u8, number: u128, expected: Option<&str>| {
            let carved = carve(within.parse().unwrap(), length, number);
            assert_eq!(carved.map(|net| net.to_string()).as_deref(), expected);
        };
        check("fd00:10::/48", 64, 0, Some("fd00:10::/64"));
        check("fd00:10::/48", 64, 65_535, Some("fd00:10:0:ffff::/64"));
        check("fd00:10::/48", 64, 65_536, None);
        check("10.0.0.0/8", 24, 65_535, Some("10.255.255.0/24"));
        check("10.0.0.0/8", 24, 65_536, None);
        check("10.0.0.0/8", 8, 0, Some("10.0.0.0/8"));
        check("10.0.0.0/8", 8, 1, None);
        check(
            "::/0",
            128,
            u128::MAX,
            Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"),
        );
    }

    #[test]
    fn every_fault_comes_at_once_with_its_place() {
        let faults = Template::read(
            b"nmae: x\nname: \"a{nam}b\"\nsubnet_length: 64\nname: y\norder:\nranges: {a: 1}\n",
        )
        .unwrap_err();
        assert_eq!(
            messages(&faults),
            [
                "line 1, column 1: a template has no \"nmae\"",
                "line 2, column 9: there is no placeholder {nam}",
                "line 3, column 16: carving needs subnet_within and subnet_length",
                "line 4, column 1: name is set in line 2 already",
                "line 5, column 1: order has no value",
                "line 6, column 9: ranges has structure",
            ]
        );
        assert!(faults.iter().all(|fault| fault.field == "template"));
        assert!(faults.iter().all(|fault| !fault.remedy.is_empty()));
    }

    #[test]
    fn what_does_not_fit_one_subcloud_is_told_with_its_name() {
        let template =
            read("subnet_within: 10.0.0.0/23\nsubnet_length: 24\nname: \"{subnet+256}\"\n");
        let faults = template.expand(2, "west").unwrap_err();
        assert_eq!(
            messages(&faults),
            ["line 2, column 16: 10.0.0.0/23 has no /24 number 2"]
        );
        assert_eq!(faults[0].objects[0].name, "west");
        let faults = template.expand(1, "west").unwrap_err();
        assert_eq!(
            messages(&faults),
            ["line 3, column 8: 10.0.1.0/24 has no address 256 behind its first"]
        );
    }

    #[test]
    fn a_new_pool_needs_a_name_and_a_subnet() {
        let faults = read("order: random\n").complete().unwrap_err();
        assert_eq!(faults.len(), 2);
    }

    proptest::proptest! {
        #[test]
        fn carved_subnets_are_disjoint_and_inside(
            low in 0_u8..=48, spare in 0_u8..=16, one in 0_u128..70_000, other in 0_u128..70_000
        ) {
            let within = IpNet::new("fd00:10::".parse().unwrap(), low).unwrap().trunc();
            let length = low + spare;
            let fits = |number: u128| number >> spare == 0;
            let (a, b) = (carve(within, length, one), carve(within, length, other));
            proptest::prop_assert_eq!(a.is_some(), fits(one));
            if let (Some(a), Some(b)) = (a, b) {
                proptest::prop_assert!(within.contains(&a));
                proptest::prop_assert_eq!(a == b, one == other);
                proptest::prop_assert_eq!(a.contains(&b), one == other);
            }
        }

        #[test]
        fn no_text_is_too_odd_to_be_judged(text in "\\PC{0,80}|(name|subnet|ranges|[{}:+ x\\[\\]\"\\n]){0,30}") {
            if let Ok(template) = Template::read(text.as_bytes()) {
                let _judged = template.expand(7, "west");
            }
        }
    }
}
