//! Typed values of variables: addresses and subnets, each with its own place in the file.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;

use super::document::{Document, Entry, Text, Value};
use super::fault::FaultReason;
use super::findings::Findings;
use super::variables;
use crate::Family;
use crate::address::{AddressError, parse_address};

/// The most values of a variable: primary and secondary.
const MAX_VALUES: usize = 2;

/// How much of a value a message repeats.
const MAX_SHOWN: usize = 60;

/// What the file says about a variable: nothing, something that is at fault (and told), or a
/// value.
#[derive(Debug, Clone)]
pub(super) enum Slot<T> {
    Absent,
    Faulty,
    Given(T),
}

impl<T> Slot<T> {
    pub(super) fn given(&self) -> Option<&T> {
        match self {
            Self::Given(value) => Some(value),
            Self::Absent | Self::Faulty => None,
        }
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// The values of one variable, primary first.
#[derive(Debug, Clone)]
pub(super) struct Values<T> {
    pub(super) variable: String,
    /// All of it.
    pub(super) span: Range<usize>,
    /// Those that could be read.
    pub(super) items: Vec<Placed<T>>,
    /// Whether all were, so that their number and order mean something.
    pub(super) sound: bool,
}

/// Gives out the variables of a document, each once; what is left is unknown.
pub(super) struct Reader<'f, 'a> {
    pub(super) findings: &'f mut Findings<'a>,
    entries: BTreeMap<String, Entry>,
    truncated: bool,
}

impl<'f, 'a> Reader<'f, 'a> {
    /// Sorts the entries by name, telling the ones that come twice.
    pub(super) fn new(document: Document, findings: &'f mut Findings<'a>) -> Self {
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        for entry in document.entries {
            let Some(first) = entries.get(&entry.name.content) else {
                entries.insert(entry.name.content.clone(), entry);
                continue;
            };
            // A line that cannot be read is told already.
            if matches!(entry.value, Value::Broken) {
                continue;
            }
            let name = shown(&entry.name.content);
            findings.fault(
                FaultReason::YamlDuplicateKey,
                &entry.name.content,
                format!("{name} is set twice"),
                "keep one of the two lines",
                &[
                    (entry.name.span, "set again here"),
                    (first.name.span.clone(), "first set here"),
                ],
            );
        }
        Self {
            findings,
            entries,
            truncated: document.truncated,
        }
    }

    /// Warns about every variable that was not taken.
    pub(super) fn warn_about_the_rest(&mut self) {
        let mut rest: Vec<_> = std::mem::take(&mut self.entries).into_values().collect();
        rest.sort_by_key(|entry| entry.name.span.start);
        for entry in rest {
            let nearest = self
                .findings
                .listens()
                .then(|| variables::nearest(&entry.name.content));
            let name = shown(&entry.name.content);
            self.findings
                .unknown(&name, nearest.flatten().as_deref(), &entry.name.span);
        }
    }

    /// A variable with one text.
    pub(super) fn text(&mut self, variable: &str) -> Slot<Text> {
        let Some(entry) = self.entries.remove(variable) else {
            return if self.truncated {
                Slot::Faulty
            } else {
                Slot::Absent
            };
        };
        let span = match entry.value {
            Value::Scalar(text) if text.is_null() => {
                self.without_value(variable, entry.name.span);
                return Slot::Faulty;
            }
            Value::Scalar(text) => return Slot::Given(text),
            Value::Broken => return Slot::Faulty,
            Value::List { span, .. } | Value::Nested { span } => span,
        };
        self.findings.fault(
            FaultReason::YamlNestedValue,
            variable,
            format!("{variable} is a list or mapping, not a text"),
            format!("write `{variable}: VALUE`; two values as `PRIMARY,SECONDARY`"),
            &[(span, "not a text")],
        );
        Slot::Faulty
    }

    fn without_value(&mut self, variable: &str, span: Range<usize>) {
        self.findings.fault(
            FaultReason::ValueMissing,
            variable,
            format!("{variable} has no value"),
            "write the value after the `:`, or remove the line",
            &[(span, "no value")],
        );
    }

    /// A variable that must be one of `known`; the first name of each choice is the usual one.
    pub(super) fn choice<T: Copy>(
        &mut self,
        variable: &str,
        known: &[(&str, T)],
    ) -> Slot<Placed<T>> {
        let text = match self.text(variable) {
            Slot::Given(text) => text,
            Slot::Absent => return Slot::Absent,
            Slot::Faulty => return Slot::Faulty,
        };
        if let Some((_, value)) = known.iter().find(|(name, _)| *name == text.content) {
            return Slot::Given(Placed {
                value: *value,
                span: text.span,
            });
        }
        let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
        self.findings.fault(
            FaultReason::ValueUnknown,
            variable,
            format!("{variable} cannot be `{}`", shown(&text.content)),
            format!("write one of: {}", names.join(", ")),
            &[(text.span, "not known")],
        );
        Slot::Faulty
    }

    /// A variable with the addresses of a network, at most two, of different families.
    pub(super) fn addresses(&mut self, variable: &str) -> Slot<Values<IpAddr>> {
        match self.text(variable) {
            Slot::Absent => Slot::Absent,
            Slot::Faulty => Slot::Faulty,
            Slot::Given(text) => {
                let elements = elements(&text);
                let values = self.values(variable, text.span, elements, MAX_VALUES, address);
                Slot::Given(self.paired(values, Family::of))
            }
        }
    }

    /// A variable with the subnets of a network, at most two, of different families.
    pub(super) fn subnets(&mut self, variable: &str) -> Slot<Values<IpNet>> {
        match self.text(variable) {
            Slot::Absent => Slot::Absent,
            Slot::Faulty => Slot::Faulty,
            Slot::Given(text) => {
                let elements = elements(&text);
                let values = self.values(variable, text.span, elements, MAX_VALUES, subnet);
                Slot::Given(self.paired(values, Family::of_subnet))
            }
        }
    }

    /// A variable with at most `limit` addresses of any family, as a text or as a YAML list.
    pub(super) fn servers(&mut self, variable: &str, limit: usize) -> Slot<Values<IpAddr>> {
        let list = match self.entries.get(variable).map(|entry| &entry.value) {
            Some(Value::List { items, span }) => Some((items.clone(), span.clone())),
            _ => None,
        };
        let (elements, span) = match list {
            Some((items, span)) => {
                self.entries.remove(variable);
                let whole = |item: &Text| Element {
                    text: item.content.clone(),
                    span: item.span.clone(),
                };
                (items.iter().map(whole).collect(), span)
            }
            None => match self.text(variable) {
                Slot::Given(text) => (elements(&text), text.span),
                Slot::Absent => return Slot::Absent,
                Slot::Faulty => return Slot::Faulty,
            },
        };
        Slot::Given(self.values(variable, span, elements, limit, address))
    }

    /// Reads at most `limit` elements.
    fn values<T>(
        &mut self,
        variable: &str,
        span: Range<usize>,
        mut elements: Vec<Element>,
        limit: usize,
        read: impl Fn(&mut Findings<'a>, &str, &Element) -> Option<T>,
    ) -> Values<T> {
        let count = elements.len();
        let mut sound = count <= limit;
        if let (Some(extra), Some(last)) = (elements.get(limit), elements.last()) {
            self.findings.fault(
                FaultReason::TooManyValues,
                variable,
                format!("{variable} has {count} values; it takes at most {limit}"),
                "remove the values beyond the limit",
                &[(
                    extra.span.start..last.span.end.max(extra.span.end),
                    "too many",
                )],
            );
        }
        elements.truncate(limit);
        let mut items = Vec::new();
        for element in elements {
            match read(self.findings, variable, &element) {
                Some(value) => items.push(Placed {
                    value,
                    span: element.span,
                }),
                None => sound = false,
            }
        }
        Values {
            variable: variable.to_owned(),
            span,
            items,
            sound,
        }
    }

    /// Keeps at most one value per family.
    fn paired<T: Copy>(
        &mut self,
        mut values: Values<T>,
        family: impl Fn(T) -> Family,
    ) -> Values<T> {
        if let [first, second] = values.items.as_slice()
            && family(first.value) == family(second.value)
        {
            let family = family(first.value);
            self.findings.fault(
                FaultReason::SameFamilyTwice,
                &values.variable,
                format!("both values of {} are {family}", values.variable),
                format!(
                    "keep one of them, or make the second one {}",
                    family.other()
                ),
                &[
                    (second.span.clone(), "the same family again"),
                    (first.span.clone(), "the primary value"),
                ],
            );
            values.items.truncate(1);
            values.sound = false;
        }
        values
    }
}

/// One value between commas.
struct Element {
    text: String,
    span: Range<usize>,
}

/// Splits at commas. Blanks around a comma do not count; others do, and then make the value
/// unreadable. A missing value gets the place of its comma.
fn elements(text: &Text) -> Vec<Element> {
    let content = text.content.as_str();
    let last = content.matches(',').count();
    let mut offset = 0;
    let mut elements = Vec::new();
    for (index, piece) in content.split(',').enumerate() {
        let lead = if index > 0 {
            piece.len() - piece.trim_start().len()
        } else {
            0
        };
        let value = &piece[lead..];
        let value = if index < last {
            value.trim_end()
        } else {
            value
        };
        let place = match (value.is_empty(), index) {
            (false, _) => offset + lead..offset + lead + value.len(),
            (true, 0) => offset + piece.len()..(offset + piece.len() + 1).min(content.len()),
            (true, _) => offset - 1..offset,
        };
        let span = match text.verbatim {
            Some(start) => start + place.start..start + place.end,
            None => text.span.clone(),
        };
        elements.push(Element {
            text: value.to_owned(),
            span,
        });
        offset += piece.len() + 1;
    }
    elements
}

fn address(findings: &mut Findings<'_>, variable: &str, element: &Element) -> Option<IpAddr> {
    let error = match parse_address(&element.text) {
        Ok(address) => return Some(address),
        Err(error) => error,
    };
    let (reason, remedy) = match error {
        AddressError::Mapped(_) => (FaultReason::Ipv4Mapped, error.remedy()),
        AddressError::Prefix => (
            FaultReason::AddressUnparsable,
            "leave out the prefix length: only subnets have one".to_owned(),
        ),
        _ => (FaultReason::AddressUnparsable, error.remedy()),
    };
    let message = format!(
        "{variable}: `{}` is no address: {error}",
        shown(&element.text)
    );
    findings.fault(
        reason,
        variable,
        message,
        remedy,
        &[(element.span.clone(), "no address")],
    );
    None
}

fn subnet(findings: &mut Findings<'_>, variable: &str, element: &Element) -> Option<IpNet> {
    let text = shown(&element.text);
    let place = |message| [(element.span.clone(), message)];
    let Some((network, prefix)) = element.text.split_once('/') else {
        if parse_address(&element.text).is_ok() {
            findings.fault(
                FaultReason::SubnetTooSmall,
                variable,
                format!("{variable}: {text} has no prefix length, so it is a single address"),
                "write the prefix length too, such as fd01::/64 or 10.10.10.0/24",
                &place("a single address"),
            );
        } else {
            unparsable_subnet(findings, variable, element, "it is not ADDRESS/PREFIX");
        }
        return None;
    };
    let address = match parse_address(network) {
        Ok(address) => address,
        Err(AddressError::Mapped(mapped)) => {
            findings.fault(
                FaultReason::Ipv4Mapped,
                variable,
                format!("{variable}: {text} is IPv4 written as IPv6"),
                format!("write the IPv4 subnet of {mapped} with its IPv4 prefix length"),
                &place("IPv4 written as IPv6"),
            );
            return None;
        }
        Err(error) => {
            unparsable_subnet(findings, variable, element, &error.to_string());
            return None;
        }
    };
    let limit = if address.is_ipv4() { 32 } else { 128 };
    let length = Some(prefix)
        .filter(|prefix| prefix.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|prefix| prefix.parse::<u8>().ok())
        .filter(|length| *length <= limit);
    let Some(subnet) = length.and_then(|length| IpNet::new(address, length).ok()) else {
        let message = format!("the prefix length is not a number from 0 to {limit}");
        unparsable_subnet(findings, variable, element, &message);
        return None;
    };
    if subnet.addr() != subnet.network() {
        findings.fault(
            FaultReason::HostBitsSet,
            variable,
            format!("{variable}: {text} has bits set beyond its prefix"),
            format!("write {}", subnet.trunc()),
            &place("not the first address of its subnet"),
        );
    }
    Some(subnet.trunc())
}

fn unparsable_subnet(findings: &mut Findings<'_>, variable: &str, element: &Element, cause: &str) {
    findings.fault(
        FaultReason::SubnetUnparsable,
        variable,
        format!(
            "{variable}: `{}` is no subnet: {cause}",
            shown(&element.text)
        ),
        "write it like fd01::/64 or 10.10.10.0/24, without blanks",
        &[(element.span.clone(), "no subnet")],
    );
}

/// A text for a message: one line, not too long.
pub(super) fn shown(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_SHOWN)
        .collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        format!("{line}…")
    } else {
        line
    }
}
