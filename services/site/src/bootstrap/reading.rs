//! From the variables of a file to what they declare, in the order in which one rule needs
//! another: settings, subnets, defaults, rules between networks, addresses.

use std::net::IpAddr;
use std::ops::Range;

use super::declared::{Declared, DeclaredLink, DeclaredNetwork};
use super::document::{self, Text};
use super::fault::FaultReason;
use super::findings::Findings;
use super::networks::{Subnet, Subnets, Written};
use super::rules::{self, Primary};
use super::values::{Placed, Reader, Slot, Values, shown};
use super::variables::{Field, SECTIONS, Section, section};
use crate::{
    DistributedCloudRole, Family, MAX_DNS_SERVERS, MAX_NAME_LENGTH, NetworkKind, Reason,
    SoftwareVersion, SystemMode, SystemType, fleet_name_problem,
};

/// How much of a site the file has to describe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// All of it.
    WholeSite,
    /// The networks towards other sites; the rest may be absent.
    LinkOnly,
}

/// The file, judged.
pub(super) struct Reading {
    name: Slot<Placed<String>>,
    region_name: Slot<Placed<String>>,
    system_mode: Slot<Placed<SystemMode>>,
    system_type: Slot<Placed<SystemType>>,
    role: Slot<Placed<DistributedCloudRole>>,
    version: Slot<Placed<SoftwareVersion>>,
    dns_servers: Slot<Values<IpAddr>>,
    gateways: Slot<Values<IpAddr>>,
    written: Vec<Written>,
    declared: Vec<DeclaredNetwork>,
}

impl Reading {
    /// Reads and judges; what is wrong goes to `findings`.
    pub(super) fn new(scope: Scope, findings: &mut Findings<'_>) -> Self {
        let mut document = document::read(findings);
        if document.entries.is_empty() {
            if findings.faults.is_empty() {
                findings.fault(
                    FaultReason::FileEmpty,
                    "",
                    "the file has no variables",
                    "write one `variable: value` per line; deploy/examples has whole files",
                    &[(0..0, "")],
                );
            }
            document.truncated = true;
        }
        let mut reader = Reader::new(document, findings);
        let mut reading = Self::take(&mut reader);
        reader.warn_about_the_rest();
        reading.judge(scope, findings);
        reading
    }

    fn take(reader: &mut Reader<'_, '_>) -> Self {
        let modes = [
            ("simplex", SystemMode::Simplex),
            ("duplex", SystemMode::Duplex),
            ("duplex-direct", SystemMode::DuplexDirect),
        ];
        let types = [
            ("all-in-one", SystemType::AllInOne),
            ("standard", SystemType::Standard),
        ];
        let roles = [
            ("none", DistributedCloudRole::None),
            ("systemcontroller", DistributedCloudRole::SystemController),
            ("subcloud", DistributedCloudRole::Subcloud),
        ];
        // Its value matters to the installer only; that it is an address is judged here.
        let _installer_address = reader.addresses("bootstrap-address");
        Self {
            name: name(reader, "name"),
            region_name: name(reader, "region_name"),
            system_mode: reader.choice("system_mode", &modes),
            system_type: reader.choice("system_type", &types),
            role: reader.choice("distributed_cloud_role", &roles),
            version: version(reader),
            dns_servers: reader.servers("dns_servers", MAX_DNS_SERVERS),
            gateways: reader.addresses("systemcontroller_gateway_address"),
            written: SECTIONS
                .iter()
                .map(|section| Written::read(section, reader))
                .collect(),
            declared: Vec::new(),
        }
    }

    /// The mode that sizes are judged by: the more demanding one while it is unknown.
    fn mode(&self) -> SystemMode {
        self.system_mode
            .given()
            .map_or(SystemMode::Duplex, |placed| placed.value)
    }

    fn judge(&mut self, scope: Scope, findings: &mut Findings<'_>) {
        let mode = self.mode();
        if scope == Scope::WholeSite {
            self.require_settings(findings);
        }
        let primary = Primary::of(&self.written);
        let networks = self.subnets(scope, primary.as_ref(), findings);
        rules::check(&networks, primary.as_ref(), mode, &self.version, findings);
        rules::check_simplex(&self.written, mode, findings);
        rules::check_dns(&self.dns_servers, &networks, findings);
        self.require_oam(findings);
        for network in &self.written {
            if network.section.kind == NetworkKind::Admin {
                rules::check_admin(network, mode, findings);
            }
        }
        self.judge_role(scope, &networks, findings);
        for subnets in &networks {
            let written = self.written.iter().find(|w| w.section == subnets.section);
            let network = written.and_then(|written| written.declare(subnets, mode, findings));
            self.declared.extend(network);
        }
        rules::check_held_twice(&self.declared, &self.written, findings);
        self.assume(findings);
    }

    fn require_settings(&self, findings: &mut Findings<'_>) {
        let required = [
            ("name", self.name.is_absent(), "name: subcloud-1"),
            (
                "system_mode",
                self.system_mode.is_absent(),
                "system_mode: duplex",
            ),
        ];
        for (variable, absent, example) in required {
            if absent {
                findings.fault(
                    FaultReason::ValueMissing,
                    variable,
                    format!("{variable} is required"),
                    format!("add a line such as `{example}`"),
                    &[],
                );
            }
        }
    }

    /// oam is the site's public side: its subnet, gateway and floating address have no default.
    fn require_oam(&self, findings: &mut Findings<'_>) {
        let oam = self
            .written
            .iter()
            .find(|w| w.section.kind == NetworkKind::Oam);
        let Some(oam) = oam else { return };
        let mut missing = Vec::new();
        if oam.subnets.is_absent() {
            missing.push(oam.section.subnet());
        }
        for field in [Field::Gateway, Field::Floating] {
            if oam.field(field).is_absent() {
                missing.push(oam.section.variable(field));
            }
        }
        for variable in missing {
            findings.fault(
                FaultReason::ValueMissing,
                &variable,
                format!("{variable} is required"),
                format!("add the line `{variable}: …`; two values as `PRIMARY,SECONDARY`"),
                &[],
            );
        }
    }

    /// The subnets of every network, defaults included where they are documented.
    fn subnets(
        &self,
        scope: Scope,
        primary: Option<&Primary>,
        findings: &mut Findings<'_>,
    ) -> Vec<Subnets> {
        let mut networks: Vec<Subnets> = Vec::new();
        let admin = self.written.iter().any(|written| {
            written.section.kind == NetworkKind::Admin && !written.subnets.is_absent()
        });
        for written in &self.written {
            let section = written.section;
            let found = match &written.subnets {
                Slot::Given(values) => Some(given(section, values)),
                Slot::Faulty => None,
                Slot::Absent if scope == Scope::WholeSite => {
                    self.default(section, primary, &networks, findings)
                }
                Slot::Absent => {
                    if section.kind == NetworkKind::Mgmt && !admin {
                        tell_missing(section, None, findings);
                    }
                    None
                }
            };
            networks.extend(found);
        }
        networks
    }

    fn default(
        &self,
        section: &'static Section,
        primary: Option<&Primary>,
        before: &[Subnets],
        findings: &mut Findings<'_>,
    ) -> Option<Subnets> {
        let families = match section.kind {
            // The site boots over IPv4 whatever else it has.
            NetworkKind::Pxeboot => vec![Family::Ipv4],
            NetworkKind::Multicast => {
                let mgmt = before
                    .iter()
                    .find(|n| n.section.kind == NetworkKind::Mgmt)?;
                mgmt.items.iter().map(Subnet::family).collect()
            }
            // oam and admin have no default; their absence is judged elsewhere.
            NetworkKind::Oam | NetworkKind::Admin => return None,
            _ => match primary {
                Some(primary) if primary.family == Family::Ipv6 => {
                    tell_missing(section, Some(primary), findings);
                    return None;
                }
                Some(_) => vec![Family::Ipv4],
                // Nothing says otherwise, unless it could not be read.
                None if self.written.iter().all(|w| w.subnets.is_absent()) => vec![Family::Ipv4],
                None => return None,
            },
        };
        let mut items = Vec::new();
        for family in families {
            let text = match family {
                Family::Ipv4 => section.defaults.0,
                Family::Ipv6 => section.defaults.1,
            };
            items.push(Subnet {
                value: text?.parse().ok()?,
                span: None,
            });
        }
        findings.assume(
            section.subnet(),
            joined(items.iter().map(|item| item.value)),
        );
        Some(Subnets {
            section,
            items,
            sound: true,
            span: None,
        })
    }

    fn judge_role(&self, scope: Scope, networks: &[Subnets], findings: &mut Findings<'_>) {
        let find = |kind| {
            networks
                .iter()
                .find(|network: &&Subnets| network.section.kind == kind)
        };
        let link = find(NetworkKind::Admin).or_else(|| find(NetworkKind::Mgmt));
        let subcloud = DistributedCloudRole::Subcloud;
        let role = match (&self.role, scope) {
            (Slot::Given(role), Scope::LinkOnly) if role.value != subcloud => {
                findings.fault(
                    FaultReason::RoleMismatch,
                    "distributed_cloud_role",
                    "the file is not of a subcloud",
                    "write subcloud, or give the file of the subcloud",
                    &[(role.span.clone(), "only a subcloud can be added")],
                );
                None
            }
            (Slot::Given(role), _) => Some(role.value),
            (Slot::Absent, Scope::WholeSite) => Some(DistributedCloudRole::None),
            (Slot::Absent, Scope::LinkOnly) | (Slot::Faulty, _) => None,
        };
        rules::check_gateways(&self.gateways, role, link, findings);
        if role == Some(subcloud) || scope == Scope::LinkOnly {
            self.judge_fleet_name(findings);
        }
    }

    /// A subcloud has the name of its site, and a site cannot be renamed.
    fn judge_fleet_name(&self, findings: &mut Findings<'_>) {
        let Slot::Given(name) = &self.name else {
            return;
        };
        if let Some(problem) = fleet_name_problem(&name.value) {
            findings.fault(
                Reason::InvalidArgument,
                "name",
                format!("the name `{}` {problem}", shown(&name.value)),
                "choose 1 to 63 letters, digits, '-', '_' or '.', such as subcloud-1",
                &[(name.span.clone(), "no subcloud can have this name")],
            );
        }
    }

    /// Notes every default but those of subnets, which are noted where they are taken.
    fn assume(&self, findings: &mut Findings<'_>) {
        if self.version.is_absent() {
            findings.assume("software_version", SoftwareVersion::DUAL_STACK);
        }
        for network in &self.declared {
            let Some(section) = section(network.kind) else {
                continue;
            };
            let Some(written) = self.written.iter().find(|w| w.section == section) else {
                continue;
            };
            let pools = || network.pools();
            let mut note = |field, values: Vec<IpAddr>| {
                if written.field(field).is_absent() && !values.is_empty() {
                    findings.assume(section.variable(field), joined(values));
                }
            };
            note(
                Field::Start,
                pools().map(|pool| pool.range.first()).collect(),
            );
            note(Field::End, pools().map(|pool| pool.range.last()).collect());
            note(
                Field::Floating,
                pools().filter_map(|pool| pool.addresses.floating).collect(),
            );
            if network.kind == NetworkKind::Oam {
                let first = pools()
                    .filter_map(|pool| pool.addresses.controller0)
                    .collect();
                note(Field::Node0, first);
                let second = pools()
                    .filter_map(|pool| pool.addresses.controller1)
                    .collect();
                note(Field::Node1, second);
            }
            if written.dynamic.is_absent() {
                findings.assume(section.dynamic_variable(), network.dynamic);
            }
        }
    }

    /// What the file declares of the link, if that much is right.
    pub(super) fn link(self, _findings: &mut Findings<'_>) -> Option<DeclaredLink> {
        let find = |kind| {
            self.declared
                .iter()
                .find(|network| network.kind == kind)
                .cloned()
        };
        let link = find(NetworkKind::Admin).or_else(|| find(NetworkKind::Mgmt))?;
        let oam = find(NetworkKind::Oam)?;
        Some(DeclaredLink {
            name: self.name.given().map(|name| name.value.clone()),
            region_name: self.region_name.given().map(|name| name.value.clone()),
            system_mode: self.system_mode.given().map(|mode| mode.value),
            software_version: self
                .version
                .given()
                .map_or(SoftwareVersion::DUAL_STACK, |version| version.value),
            link,
            oam,
            gateways: addresses(&self.gateways),
            networks: self.declared,
            warnings: Vec::new(),
            assumed: Vec::new(),
        })
    }

    /// The whole site, if it is right.
    pub(super) fn whole(self, findings: &mut Findings<'_>) -> Option<Declared> {
        let name = self.name.given()?.value.clone();
        let region_name = match &self.region_name {
            Slot::Given(region_name) => region_name.value.clone(),
            Slot::Absent => {
                findings.assume("region_name", &name);
                name.clone()
            }
            Slot::Faulty => return None,
        };
        let system_mode = self.system_mode.given()?.value;
        let system_type = match &self.system_type {
            Slot::Given(system_type) => system_type.value,
            Slot::Absent => {
                findings.assume("system_type", "all-in-one");
                SystemType::AllInOne
            }
            Slot::Faulty => return None,
        };
        let role = match &self.role {
            Slot::Given(role) => role.value,
            Slot::Absent => {
                findings.assume("distributed_cloud_role", "none");
                DistributedCloudRole::None
            }
            Slot::Faulty => return None,
        };
        let dns_servers = addresses(&self.dns_servers);
        if self.dns_servers.is_absent() {
            findings.assume("dns_servers", "none");
        }
        let link = self.link(findings)?;
        Some(Declared {
            name,
            region_name,
            system_type,
            system_mode,
            role,
            dns_servers,
            link,
        })
    }
}

fn addresses(slot: &Slot<Values<IpAddr>>) -> Vec<IpAddr> {
    let values = slot
        .given()
        .map(|values| values.items.iter().map(|item| item.value));
    values.into_iter().flatten().collect()
}

fn given(section: &'static Section, values: &Values<ipnet::IpNet>) -> Subnets {
    let items = values
        .items
        .iter()
        .map(|item| Subnet {
            value: item.value,
            span: Some(item.span.clone()),
        })
        .collect();
    Subnets {
        section,
        items,
        sound: values.sound,
        span: Some(values.span.clone()),
    }
}

fn tell_missing(section: &Section, primary: Option<&Primary>, findings: &mut Findings<'_>) {
    let variable = section.subnet();
    let (message, places): (_, Vec<(Range<usize>, &str)>) = match primary {
        Some(primary) => (
            format!("{variable} is required: only an IPv4 site has a default for it"),
            vec![primary.place()],
        ),
        None => (
            format!("{variable} is required: nothing else links the site"),
            Vec::new(),
        ),
    };
    let remedy = format!("add the line `{variable}: …`; two values as `PRIMARY,SECONDARY`");
    findings.fault(
        FaultReason::ValueMissing,
        &variable,
        message,
        remedy,
        &places,
    );
}

/// A name: some characters, none of them invisible, and no blanks at its ends.
fn name(reader: &mut Reader<'_, '_>, variable: &str) -> Slot<Placed<String>> {
    let text = match reader.text(variable) {
        Slot::Given(text) => text,
        Slot::Absent => return Slot::Absent,
        Slot::Faulty => return Slot::Faulty,
    };
    let Text { content, span, .. } = text;
    let count = content.chars().count();
    let visible = !content.chars().any(char::is_control) && content.trim() == content;
    if (1..=MAX_NAME_LENGTH).contains(&count) && visible {
        return Slot::Given(Placed {
            value: content,
            span,
        });
    }
    reader.findings.fault(
        Reason::InvalidArgument,
        variable,
        format!("{variable} cannot be `{}`", shown(&content)),
        format!("write 1 to {MAX_NAME_LENGTH} visible characters without blanks around them"),
        &[(span, "no name")],
    );
    Slot::Faulty
}

fn version(reader: &mut Reader<'_, '_>) -> Slot<Placed<SoftwareVersion>> {
    let text = match reader.text("software_version") {
        Slot::Given(text) => text,
        Slot::Absent => return Slot::Absent,
        Slot::Faulty => return Slot::Faulty,
    };
    if let Ok(value) = text.content.parse() {
        return Slot::Given(Placed {
            value,
            span: text.span,
        });
    }
    reader.findings.fault(
        FaultReason::ValueUnknown,
        "software_version",
        format!("software_version cannot be `{}`", shown(&text.content)),
        "write year and month with two digits each, such as 24.09",
        &[(text.span, "no version")],
    );
    Slot::Faulty
}

fn joined<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    values
        .into_iter()
        .map(|value| value.to_string())
        .collect::<Vec<_>>()
        .join(",")
}
