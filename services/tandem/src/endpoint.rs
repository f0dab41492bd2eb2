//! Where the daemon is, and the connection to it.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tonic::codegen::http::Uri;
use tonic::transport::Channel;

use crate::failure::Failure;
use crate::witness::Witnessed;

/// Where the daemon is looked for when nobody says: the socket of an installed service.
pub(crate) const DEFAULT: &str = "unix:/run/tandem/operator.sock";

/// The operators' port on the oam addresses.
const DEFAULT_PORT: u16 = 8440;

/// The longest that opening a connection may take: a floating address that answers at all
/// answers within this, and an operator waits no longer for one that does not.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// How often a silent daemon is asked for a sign of life while an answer or an event is awaited,
/// and how long it may take: a peer that vanished is noticed within the sum.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Room for a refusal with many faults: its details travel in a header.
const MAX_HEADER_BYTES: u32 = 64 * 1024;

/// Where a daemon answers operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// A socket of this machine.
    Unix(PathBuf),
    /// TLS over TCP.
    Https(Host, u16),
}

/// The other end of a TCP connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// A literal address.
    Address(IpAddr),
    /// A name for the resolver.
    Name(String),
}

/// The files that prove who is who over TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// The controller's CA, PEM.
    pub(crate) ca: Option<PathBuf>,
    /// The operator's certificate, PEM.
    pub(crate) certificate: Option<PathBuf>,
    /// The key of that certificate, PEM.
    pub(crate) key: Option<PathBuf>,
}

impl Endpoint {
    /// Reads `unix:PATH` or `https://ADDR:PORT`.
    ///
    /// # Errors
    /// What is wrong, and how it is written correctly.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        if let Some(path) = text.strip_prefix("unix:") {
            // unix:///run/x is the form of other gRPC tools.
            let path = if path.starts_with("///") {
                &path[2..]
            } else {
                path
            };
            if path.is_empty() {
                return Err(wrong(
                    text,
                    "the path is missing",
                    "write unix:/path/operator.sock",
                ));
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        if let Some(authority) = text.strip_prefix("https://") {
            let authority = authority.strip_suffix('/').unwrap_or(authority);
            return https(text, authority);
        }
        if let Some(rest) = text.strip_prefix("http://") {
            let remedy = format!(
                "write https://{rest} and give --ca, --cert and --key, or use the unix socket on \
                 the daemon's own machine"
            );
            return Err(wrong(text, "operators are only served over TLS", remedy));
        }
        let remedy = if text.starts_with('/') {
            format!("write unix:{text}")
        } else {
            format!("write unix:PATH or https://ADDR:PORT, such as {DEFAULT}")
        };
        Err(wrong(
            text,
            "it begins with neither unix: nor https://",
            remedy,
        ))
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// Credentials that are missing or unreadable, and every way in which a daemon cannot be
    /// reached, each with its remedy.
    pub(crate) async fn connect(&self, credentials: &Credentials) -> Result<Channel, Failure> {
        match self {
            Self::Unix(path) => {
                let stream = within_deadline(self, UnixStream::connect(path)).await?;
                let stream = stream.map_err(|fault| socket_failure(path, &fault))?;
                channel(self, stream).await
            }
            Self::Https(host, port) => {
                let config = credentials.tls()?;
                let target = match host {
                    Host::Address(address) => address.to_string(),
                    Host::Name(name) => name.clone(),
                };
                let connecting = TcpStream::connect((target.as_str(), *port));
                let stream = within_deadline(self, connecting).await?;
                let stream = stream.map_err(|fault| tcp_failure(self, &fault))?;
                let peer = stream
                    .peer_addr()
                    .map_err(|fault| tcp_failure(self, &fault))?;
                let secured = identity::connect(config, peer.ip(), stream).await;
                channel(self, secured.map_err(|fault| tls_failure(self, &fault))?).await
            }
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
            Self::Https(Host::Address(IpAddr::V6(address)), port) => {
                write!(formatter, "https://[{address}]:{port}")
            }
            Self::Https(Host::Address(IpAddr::V4(address)), port) => {
                write!(formatter, "https://{address}:{port}")
            }
            Self::Https(Host::Name(name), port) => write!(formatter, "https://{name}:{port}"),
        }
    }
}

impl Credentials {
    fn tls(&self) -> Result<std::sync::Arc<rustls::ClientConfig>, Failure> {
        let Some(ca) = &self.ca else {
            return Err(Failure::usage(
                "an https:// endpoint needs the controller's CA",
                "give --ca FILE or set TANDEM_CA; `init` wrote it as ca.crt in the state directory",
            ));
        };
        let ca = read(ca, "--ca")?;
        let (Some(certificate), Some(key)) = (&self.certificate, &self.key) else {
            return Err(Failure::usage(
                "an https:// endpoint needs an operator's certificate and its key",
                "give --cert FILE and --key FILE or set TANDEM_CERT and TANDEM_KEY; `init` wrote \
                 the first ones as operator-admin.crt and operator-admin.key",
            ));
        };
        let (certificate, key) = (read(certificate, "--cert")?, read(key, "--key")?);
        let operator = Some((certificate.as_str(), key.as_str()));
        identity::operator_client_config(&ca, operator).map_err(|fault| {
            let explanation = format!("the files of --ca, --cert and --key: {}", chain(&fault));
            let remedy = "give ca.crt, operator-admin.crt and operator-admin.key of one controller";
            Failure::bad_input(explanation, remedy)
        })
    }
}

fn https(text: &str, authority: &str) -> Result<Endpoint, Failure> {
    if authority.contains('/') {
        return Err(wrong(text, "it has a path", "end it after the port"));
    }
    if let Some(rest) = authority.strip_prefix('[') {
        let Some((literal, port)) = rest.split_once(']') else {
            return Err(wrong(
                text,
                "the bracket is not closed",
                "write https://[ADDR]:PORT",
            ));
        };
        let address: Ipv6Addr = literal.parse().map_err(|_| {
            wrong(
                text,
                "no IPv6 address stands in the brackets",
                "write https://[fd00::3]:8440",
            )
        })?;
        if let Some(mapped) = address.to_ipv4_mapped() {
            let remedy = format!("write https://{mapped}{port}");
            return Err(wrong(
                text,
                "this is an IPv4 address in IPv6 clothing",
                remedy,
            ));
        }
        let port = match port.strip_prefix(':') {
            Some(port) => port_number(text, port)?,
            None if port.is_empty() => DEFAULT_PORT,
            None => {
                return Err(wrong(
                    text,
                    "no port follows `]`",
                    "write https://[ADDR]:PORT",
                ));
            }
        };
        return Ok(Endpoint::Https(Host::Address(address.into()), port));
    }
    let (host, port) = match authority.split_once(':') {
        None => (authority, DEFAULT_PORT),
        Some((_, port)) if port.contains(':') => {
            let remedy = "write https://[fd00::3]:8440: an IPv6 address stands in brackets";
            return Err(wrong(text, "address and port cannot be told apart", remedy));
        }
        Some((host, port)) => (host, port_number(text, port)?),
    };
    if host.is_empty() {
        return Err(wrong(
            text,
            "the address is missing",
            "write https://ADDR:PORT",
        ));
    }
    let host = match host.parse::<IpAddr>() {
        Ok(address) => Host::Address(address),
        Err(_) => Host::Name(host.to_owned()),
    };
    Ok(Endpoint::Https(host, port))
}

fn port_number(text: &str, port: &str) -> Result<u16, Failure> {
    match port.parse() {
        Ok(number) if number != 0 => Ok(number),
        _ => Err(wrong(
            text,
            "the port is no number from 1 to 65535",
            "the default is 8440",
        )),
    }
}

fn wrong(text: &str, fault: &str, remedy: impl Into<String>) -> Failure {
    Failure::usage(
        format!("the endpoint `{text}` cannot be used: {fault}"),
        remedy,
    )
}

fn read(path: &Path, flag: &str) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|fault| {
        let explanation = format!("{flag} {}: {fault}", path.display());
        Failure::no_input(explanation, "give a PEM file that you may read")
    })
}

async fn within_deadline<Opened>(
    endpoint: &Endpoint,
    opening: impl Future<Output = Opened>,
) -> Result<Opened, Failure> {
    tokio::time::timeout(CONNECT_DEADLINE, opening).await.map_err(|_| {
        let seconds = CONNECT_DEADLINE.as_secs();
        Failure::unreachable(
            format!("nothing answered at {endpoint} within {seconds} s"),
            "see whether the daemon runs, and whether a route and the firewall let you reach it",
        )
    })
}

/// A channel over a stream that is already open, so that the cause of a failure is still at
/// hand. It is never reopened: one run is one connection.
async fn channel<Io>(endpoint: &Endpoint, stream: Io) -> Result<Channel, Failure>
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (stream, fault) = Witnessed::new(stream);
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_: Uri| {
        let again = stream.take().ok_or_else(|| fault.take());
        async move { again }
    });
    // The name is only the `:authority` of requests: whom this is was settled before.
    tonic::transport::Endpoint::from_static("http://tandem")
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .connect_with_connector(connector)
        .await
        .map_err(|fault| {
            let explanation = format!("{endpoint} does not speak HTTP/2: {}", chain(&fault));
            Failure::unreachable(
                explanation,
                "see whether this is a Tandem daemon's endpoint",
            )
        })
}

fn socket_failure(path: &Path, fault: &io::Error) -> Failure {
    let remedy = match fault.kind() {
        io::ErrorKind::NotFound => {
            "start the daemon; if it runs elsewhere, give --endpoint or set TANDEM_ENDPOINT to \
             what its `ready operator=…` line says"
        }
        io::ErrorKind::ConnectionRefused => {
            "the daemon that made this socket does not run any more: start it again"
        }
        io::ErrorKind::PermissionDenied => {
            "run this as root or as the daemon's user, or use https:// with an operator's \
             certificate"
        }
        _ => "see whether the daemon runs and this is its operators' socket",
    };
    let explanation = format!("no daemon answers at unix:{}: {fault}", path.display());
    Failure::unreachable(explanation, remedy)
}

fn tcp_failure(endpoint: &Endpoint, fault: &io::Error) -> Failure {
    Failure::unreachable(
        format!("no daemon answers at {endpoint}: {fault}"),
        "see whether the daemon runs and listens there (--operator-listen), and whether a route \
         and the firewall let you reach it",
    )
}

fn tls_failure(endpoint: &Endpoint, fault: &identity::ConnectError) -> Failure {
    let remedy = match fault {
        identity::ConnectError::Rejected(_) => {
            "see whether the address is the controller's and --ca is its ca.crt"
        }
        identity::ConnectError::Timeout
        | identity::ConnectError::Tls(_)
        | identity::ConnectError::Io(_) => {
            "see whether this is the operators' port (8440) of a Tandem daemon"
        }
    };
    Failure::unreachable(format!("TLS with {endpoint}: {}", chain(fault)), remedy)
}

/// An error with its causes, once each.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The endpoint as it is shown, or the first line of what is said about it.
    fn check(text: &str, expected: &str) {
        let found = match Endpoint::parse(text) {
            Ok(endpoint) => endpoint.to_string(),
            Err(failure) => failure.render(false),
        };
        assert!(found.contains(expected), "{text}: {found}");
    }

    #[test]
    fn endpoints_are_read_or_refused_with_advice() {
        check("unix:/run/x.sock", "unix:/run/x.sock");
        check("unix:///run/x.sock", "unix:/run/x.sock");
        check("unix:x.sock", "unix:x.sock");
        check("https://[FD00::0:3]:8440", "https://[fd00::3]:8440");
        check("https://[fd00::3]", "https://[fd00::3]:8440");
        check("https://10.0.0.1/", "https://10.0.0.1:8440");
        check("https://controller:9", "https://controller:9");
        check("unix:", "the path is missing");
        check("https://fd00::3:8440", "stands in brackets");
        check("https://[fd00::3:8440", "the bracket is not closed");
        check("https://[fd00::3]8440", "no port follows");
        check(
            "https://[::ffff:10.0.0.1]:1",
            "remedy: write https://10.0.0.1:1",
        );
        check(
            "https://[10.0.0.1]:1",
            "no IPv6 address stands in the brackets",
        );
        check("https://:8440", "the address is missing");
        check("https://a:0", "1 to 65535");
        check("https://a:99999", "1 to 65535");
        check("https://a/b", "it has a path");
        check("http://a:1", "remedy: write https://a:1 and give --ca");
        check("/run/x.sock", "remedy: write unix:/run/x.sock");
        check("controller", "write unix:PATH or https://ADDR:PORT");
    }

    proptest::proptest! {
        #[test]
        fn an_endpoint_is_shown_as_it_is_written(address: IpAddr, port in 1u16..) {
            let endpoint = Endpoint::Https(Host::Address(address), port);
            let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
            match Endpoint::parse(&endpoint.to_string()) {
                Ok(parsed) => proptest::prop_assert_eq!(parsed, endpoint),
                Err(failure) => proptest::prop_assert!(mapped, "{}", failure.render(false)),
            }
        }

        #[test]
        fn no_text_breaks_the_reading_of_endpoints(
            scheme in "(unix:|https://|http://)?",
            rest in "[]\\[:/.a-f0-9%]{0,24}|.*",
        ) {
            let text = scheme + &rest;
            if let Err(failure) = Endpoint::parse(&text) {
                proptest::prop_assert!(failure.render(false).contains("remedy:"), "{}", text);
            }
        }
    }
}
