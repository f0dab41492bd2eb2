//! What is wrong with a bootstrap file: where, why, and what to write instead.

use std::fmt;
use std::ops::Range;

use crate::{Code, Reason, ReasonSet, Rejection, Violation};

/// Every fault of one bootstrap file, in the order of the file, with the warnings beside them.
/// Never without a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    pub(super) file_name: String,
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<Warning>,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The stable reason.
    pub reason: FaultReason,
    /// The variable that is at fault, such as `management_subnet`; empty when the fault is
    /// about the file.
    pub variable: String,
    /// What is wrong, naming the variables and values.
    pub message: String,
    /// What the operator can do.
    pub remedy: String,
    /// Where it is: the text at fault first, then what it contradicts. Never empty.
    pub labels: Vec<Label>,
}

/// Something that is no fault, yet hardly meant: a variable that nothing reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The name as written.
    pub variable: String,
    /// The known variable whose name is nearest, when one is near.
    pub nearest: Option<String>,
    /// What was noticed.
    pub message: String,
    /// What the operator can do.
    pub remedy: String,
    /// Where it is.
    pub label: Label,
}

/// A piece of the file with its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The bytes; empty when the place is a gap where something is missing.
    pub span: Range<usize>,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The text at `span`; at most [`Label::MAX_TEXT`] characters of it.
    pub text: String,
    /// What this piece has to do with the fault; may be empty.
    pub message: String,
}

impl Label {
    /// The limit of [`Label::text`], so that one long line does not flood an answer.
    pub const MAX_TEXT: usize = 200;
}

impl Faults {
    /// Every fault, in the order of the file; never empty.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// What is hardly meant.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The name of the file, for messages.
    pub fn file_name(&self) -> &str {
        &self.file_name
    }

    /// The same faults as a refusal: one violation each, whose field is the variable and whose
    /// metadata hold `line`, `column` and `text`.
    pub fn rejection(&self) -> Option<Rejection<FaultReason>> {
        let violations = self.faults.iter().map(Fault::violation).collect();
        Rejection::check(violations).err()
    }
}

impl Fault {
    /// The piece of the file that is at fault, as opposed to what it contradicts.
    pub fn place(&self) -> Option<&Label> {
        self.labels.first()
    }

    /// The fault as a violation of a request.
    pub fn violation(&self) -> Violation<FaultReason> {
        let violation = Violation::new(self.reason, &self.message, &self.remedy).at(&self.variable);
        match self.place() {
            Some(place) => violation
                .fact("line", place.line)
                .fact("column", place.column)
                .fact("text", &place.text),
            None => violation,
        }
    }
}

impl fmt::Display for Faults {
    /// One line per fault: `FILE:LINE:COLUMN: REASON: message; remedy`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            write!(formatter, "{}:", self.file_name)?;
            if let Some(place) = fault.place() {
                write!(formatter, "{}:{}:", place.line, place.column)?;
            }
            let (reason, message) = (fault.reason.name(), &fault.message);
            write!(formatter, " {reason}: {message}; {}", fault.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

macro_rules! fault_reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// Why a bootstrap file is refused: a rule of the site, or one of the file itself.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum FaultReason {
            /// The file describes a site that breaks this rule.
            Site(Reason),
            $($(#[$doc])* $variant,)*
        }

        impl FaultReason {
            /// Every reason of the file itself.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];
        }

        impl ReasonSet for FaultReason {
            fn name(self) -> &'static str {
                match self {
                    Self::Site(reason) => reason.name(),
                    $(Self::$variant => $name,)*
                }
            }

            /// A file is wrong whatever the state is.
            fn code(self) -> Code {
                Code::InvalidArgument
            }
        }
    };
}

fault_reasons! {
    /// Nothing but blanks and comments.
    FileEmpty = "FILE_EMPTY";
    /// Larger than [`super::MAX_BYTES`].
    FileTooLarge = "FILE_TOO_LARGE";
    /// UTF-16 text.
    FileUtf16 = "FILE_UTF16";
    /// Control characters: no text at all.
    FileBinary = "FILE_BINARY";
    /// Bytes that are not UTF-8.
    FileNotUtf8 = "FILE_NOT_UTF8";
    /// Not YAML.
    YamlSyntax = "YAML_SYNTAX";
    /// A tab where YAML editors disagree about what it means.
    YamlTab = "YAML_TAB";
    /// `*name`.
    YamlAlias = "YAML_ALIAS";
    /// `&name`.
    YamlAnchor = "YAML_ANCHOR";
    /// `!tag`.
    YamlTag = "YAML_TAG";
    /// The same variable twice.
    YamlDuplicateKey = "YAML_DUPLICATE_KEY";
    /// A list or mapping where a text is expected.
    YamlNestedValue = "YAML_NESTED_VALUE";
    /// A second document after `---` or `...`.
    YamlMultipleDocuments = "YAML_MULTIPLE_DOCUMENTS";
    /// Not a list of `variable: value` lines.
    YamlNotAMapping = "YAML_NOT_A_MAPPING";
    /// More faults than [`super::MAX_FAULTS`]; the rest is not listed.
    TooManyFaults = "TOO_MANY_FAULTS";
    /// A required variable is absent, or a variable has no value.
    ValueMissing = "VALUE_MISSING";
    /// A value outside the listed ones.
    ValueUnknown = "VALUE_UNKNOWN";
    /// More than two values (dns_servers: three). N1.
    TooManyValues = "TOO_MANY_VALUES";
    /// Both values have one family. N2.
    SameFamilyTwice = "SAME_FAMILY_TWICE";
    /// Not an address. N3.
    AddressUnparsable = "ADDRESS_UNPARSABLE";
    /// Not a subnet. N3.
    SubnetUnparsable = "SUBNET_UNPARSABLE";
    /// `::ffff:a.b.c.d`: IPv4 written as IPv6.
    Ipv4Mapped = "IPV4_MAPPED";
    /// The address of a subnet has bits beyond its prefix.
    HostBitsSet = "HOST_BITS_SET";
    /// The subnet 0.0.0.0 or ::.
    SubnetUnspecified = "SUBNET_UNSPECIFIED";
    /// Not as many addresses as subnets. N4.
    CountDiffers = "COUNT_DIFFERS";
    /// The addresses list the families in another order than the subnet. N5.
    FamilyOrderDiffers = "FAMILY_ORDER_DIFFERS";
    /// The address is not in its subnet. N6.
    AddressOutsideSubnet = "ADDRESS_OUTSIDE_SUBNET";
    /// The network address, or the IPv4 broadcast. N6, N7.
    AddressReserved = "ADDRESS_RESERVED";
    /// The address is not in its range.
    AddressOutsideRange = "ADDRESS_OUTSIDE_RANGE";
    /// Two named addresses of a pool are equal.
    AddressTwice = "ADDRESS_TWICE";
    /// An IPv6 prefix below 64. N8.
    PrefixTooShort = "PREFIX_TOO_SHORT";
    /// Too few addresses. N9.
    SubnetTooSmall = "SUBNET_TOO_SMALL";
    /// Too many addresses.
    SubnetTooLarge = "SUBNET_TOO_LARGE";
    /// A multicast subnet that is not multicast.
    NotMulticast = "NOT_MULTICAST";
    /// The end lies before the start. N10.
    RangeReversed = "RANGE_REVERSED";
    /// The range cannot hold the mandatory addresses. N10.
    RangeTooSmall = "RANGE_TOO_SMALL";
    /// The gateway lies in the range that is given out to hosts. N13.
    GatewayInRange = "GATEWAY_IN_RANGE";
    /// An optional network is described in part. N14.
    NetworkIncomplete = "NETWORK_INCOMPLETE";
    /// cluster-host, cluster-pod and cluster-service are not all single- or all dual-stack.
    ClusterStackDiffers = "CLUSTER_STACK_DIFFERS";
    /// The gateway towards the system controller is not of the link family. N18.
    ControllerGatewayInvalid = "CONTROLLER_GATEWAY_INVALID";
    /// A variable that this role does not have.
    RoleMismatch = "ROLE_MISMATCH";
    /// A controller address on a simplex site, which has a floating address only.
    SimplexFloatingOnly = "SIMPLEX_FLOATING_ONLY";
}
