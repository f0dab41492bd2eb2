//! `subcloud-agent enroll`: drives the machine that takes a site from a token to an identity.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::convert::{controller_from_text, endpoint_from_url, endpoints, site_fields_to_wire};
use api::fleet_v1::enrollment_service_client::EnrollmentServiceClient;
use api::fleet_v1::{EnrollRequest, EnrollResponse};
use clap::Args;
use daemon::{Exit, Failure, Network, SystemEntropy, TransportError, now};
use fleet::admission::check_family;
use fleet::{
    AgentRecord, Credential, Enroller, EnrollerInput, EnrollerOutput, Epoch, Footprint, Refusal,
    SubcloudId,
};
use identity::{EnrollmentToken, LeafKey, enroll_client_config};
use rustls::ClientConfig;
use site::{DistributedCloudRole, Site};
use store::Store;
use uuid::Uuid;

use crate::records::{
    KeptKey, attempt_write, certificate_write, fingerprint, key_writes, record_write,
};
use crate::settings::{LinkSource, source};
use crate::{records, refusal};

/// How long attempts go on before `try again later`.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long one answer may take.
const DEADLINE: Duration = Duration::from_secs(15);

/// The longest token text: a token with four IPv6 addresses has some 300 characters.
const LONGEST_TOKEN: u64 = 4096;

/// The command line of `enroll`.
#[derive(Debug, Args)]
pub(crate) struct EnrollOptions {
    /// The directory that `init` made; stop `serve` first
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,

    /// The token that `tandem dcmanager subcloud add` printed
    #[arg(long, value_name = "TOKEN", required_unless_present = "token_file")]
    token: Option<String>,

    /// A file with the token; `-` is standard input
    #[arg(long, value_name = "FILE|-", conflicts_with = "token")]
    token_file: Option<PathBuf>,

    /// The controller; by default where the token says
    #[arg(long, value_name = "https://[ADDR]:PORT")]
    controller: Option<String>,

    /// Development only: another source address than the link address; `any` leaves it to the
    /// system and skips this side's family check
    #[arg(long, value_name = "ADDR|any")]
    link_source: Option<LinkSource>,

    /// Only ask whether the site would be admitted; the token is not spent
    #[arg(long)]
    dry_run: bool,
}

/// Redeems a token.
pub(crate) fn run(options: &EnrollOptions) -> Result<(), Failure> {
    let logs = daemon::LogOptions::default().start("subcloud-agent")?;
    let token = read_token(options)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime
        .map_err(|error| Failure::because(Exit::Software, "cannot start the runtime", &error))?;
    runtime.block_on(async {
        let enrollment = Enrollment::prepare(options, token)?;
        let enrolled = if options.dry_run {
            enrollment.ask().await
        } else {
            enrollment.redeem().await.map(|told| println!("{told}"))
        };
        logs.end().await;
        enrolled
    })
}

/// Everything that an attempt needs.
pub(crate) struct Enrollment {
    pub(crate) store: Arc<Store>,
    pub(crate) site: Arc<Site>,
    pub(crate) token: EnrollmentToken,
    pub(crate) controllers: Vec<SocketAddr>,
    pub(crate) from: Option<IpAddr>,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) network: Network,
}

/// What an attempt came to.
enum Attempt {
    Accepted(EnrollResponse),
    Refused(Refusal),
    Unreachable(String),
    /// This host lacks the address to leave from; trying again does not help.
    NoSource(String),
}

impl Enrollment {
    /// Opens the state and checks what can be checked here, before anything is sent.
    fn prepare(options: &EnrollOptions, token: EnrollmentToken) -> Result<Self, Failure> {
        let store = daemon::open_store(&options.state_dir)?;
        let (site, _) = daemon::read_site_of(&store, DistributedCloudRole::Subcloud)?;
        let controllers = controllers(options, &token)?;
        let addresses: Vec<IpAddr> = controllers.iter().map(SocketAddr::ip).collect();
        if options.link_source != Some(LinkSource::Any) {
            check_family(&Footprint::of(&site.to_parts()), &addresses)
                .map_err(|rejection| refused(&refusal::of_rejection(&rejection)))?;
        }
        let tls = enroll_client_config(token.ca())
            .map_err(|error| Failure::because(Exit::Software, "cannot configure TLS", &error))?;
        let from = source(options.link_source, site.link_address());
        Ok(Self {
            store: Arc::new(store),
            site: Arc::new(site),
            token,
            controllers,
            from,
            tls,
            network: Network::System,
        })
    }

    /// `--dry-run`: asks with a key that is forgotten again.
    async fn ask(&self) -> Result<(), Failure> {
        let key = make_key()?;
        match self.attempt(&key, true).await? {
            Attempt::Accepted(answer) => {
                warn(&answer);
                println!("{} would be admitted", self.site.identity().name);
                Ok(())
            }
            Attempt::Refused(refusal) => Err(refused(&refusal)),
            Attempt::NoSource(why) => Err(no_source(&why)),
            Attempt::Unreachable(why) => Err(later(&why)),
        }
    }

    /// Plays the machine until it finishes; what to tell the operator.
    pub(crate) async fn redeem(self) -> Result<String, Failure> {
        if let Some(enrolled) = records::read_enrolled(&self.store)? {
            if enrolled.token == self.token.id() {
                return Ok(self.enrolled_already(&enrolled));
            }
            eprintln!(
                "this site is enrolled as {}; it enrolls anew with the new token",
                enrolled.record.subcloud
            );
        }
        let kept = records::read_attempt(&self.store)?;
        let kept = kept.filter(|kept| kept.token == self.token.id());
        let mut key = kept.map(|kept| kept.key);
        let known = key.as_ref().map(fingerprint);
        let (mut machine, mut outputs) = Enroller::start(now(), known, PATIENCE);
        let mut answer = None;
        let mut why = String::new();
        while let Some(output) = outputs.pop() {
            let input = match output {
                EnrollerOutput::MakeKey => {
                    let made = self.keep_key().await?;
                    let fingerprint = fingerprint(&made);
                    key = Some(made);
                    EnrollerInput::KeyKept(fingerprint)
                }
                EnrollerOutput::Request(_) => {
                    let key = key.as_ref().ok_or_else(no_key)?;
                    match self.attempt(key, false).await? {
                        Attempt::Accepted(accepted) => {
                            let record = record(&accepted)?;
                            answer = Some(accepted);
                            EnrollerInput::Accepted(record)
                        }
                        Attempt::Refused(refusal) => EnrollerInput::Refused(refusal),
                        Attempt::NoSource(why) => return Err(no_source(&why)),
                        Attempt::Unreachable(reason) => {
                            eprintln!("{reason}; trying again");
                            why = reason;
                            EnrollerInput::Unreachable
                        }
                    }
                }
                EnrollerOutput::Keep(record) => {
                    let (key, answer) = (key.as_ref(), answer.as_ref());
                    let (key, answer) = key.zip(answer).ok_or_else(no_key)?;
                    self.keep(&record, key, answer).await?;
                    EnrollerInput::Kept
                }
                EnrollerOutput::SetTimer { at } => {
                    let wait = Duration::from_millis(at.0.saturating_sub(now().0));
                    tokio::time::sleep(wait).await;
                    EnrollerInput::Timer
                }
                EnrollerOutput::Finish(exit) => {
                    return self.finish(exit, answer.as_ref(), &why);
                }
            };
            outputs.extend(machine.on(now(), &mut SystemEntropy, input));
        }
        Err(Failure::new(
            Exit::Software,
            "the enrollment came to no end",
        ))
    }

    /// This site has enrolled with this token before, so the answer is the same.
    fn enrolled_already(&self, enrolled: &records::Enrolled) -> String {
        format!(
            "{} is enrolled already, as {}",
            self.site.identity().name,
            enrolled.record.subcloud
        )
    }

    /// Makes a key and keeps it before it is sent, so that every attempt uses the same one.
    async fn keep_key(&self) -> Result<LeafKey, Failure> {
        let kept = KeptKey {
            key: make_key()?,
            token: self.token.id(),
        };
        let committed = self.store.commit(vec![attempt_write(&kept)]).await;
        committed.map_err(|error| Failure::because(Exit::Io, "cannot keep the key", &error))?;
        Ok(kept.key)
    }

    /// Keeps key, certificate and whom the site obeys, in one step.
    async fn keep(
        &self,
        record: &AgentRecord,
        key: &LeafKey,
        answer: &EnrollResponse,
    ) -> Result<(), Failure> {
        let credential = Credential {
            key: fingerprint(key),
            renewals: 0,
            received_at: now(),
            validity: Duration::from_millis(answer.validity_milliseconds),
        };
        let authority = &answer.authority_certificate;
        let certificate = certificate_write(&credential, &answer.certificate, authority);
        let mut writes = vec![certificate, record_write(record)];
        writes.extend(key_writes(key, self.token.id()));
        let committed = self.store.commit(writes).await;
        let kept = committed
            .map_err(|error| Failure::because(Exit::Io, "cannot keep the certificate", &error));
        kept.map(drop)
    }

    /// Asks each controller in turn until one answers.
    async fn attempt(&self, key: &LeafKey, validate_only: bool) -> Result<Attempt, Failure> {
        let csr = key.csr_der();
        let csr =
            csr.map_err(|error| Failure::because(Exit::Software, "cannot sign a request", &error))?;
        let mut last = Attempt::Unreachable("no controller is known".to_owned());
        for controller in &self.controllers {
            let request = EnrollRequest {
                token: self.token.reveal(),
                certificate_signing_request: csr.to_vec(),
                site: Some(site_fields_to_wire(&self.site)),
                digest: self.site.digest().0.to_vec(),
                validate_only,
            };
            last = self.call(*controller, request).await;
            if !matches!(last, Attempt::Unreachable(_)) {
                break;
            }
        }
        Ok(last)
    }

    async fn call(&self, controller: SocketAddr, request: EnrollRequest) -> Attempt {
        let channel = self
            .network
            .connect(controller, self.from, Arc::clone(&self.tls))
            .await;
        let channel = match channel {
            Ok(channel) => channel,
            Err(error @ TransportError::Source { .. }) => {
                return Attempt::NoSource(error.to_string());
            }
            Err(error) => return Attempt::Unreachable(error.to_string()),
        };
        let mut request = tonic::Request::new(request);
        request.set_timeout(DEADLINE);
        match EnrollmentServiceClient::new(channel).enroll(request).await {
            Ok(answer) => Attempt::Accepted(answer.into_inner()),
            Err(status) => match refusal::of_status(&status) {
                Some(refusal) => Attempt::Refused(refusal),
                None => Attempt::Unreachable(format!("{controller}: {}", status.message())),
            },
        }
    }

    fn finish(
        &self,
        exit: fleet::Exit,
        answer: Option<&EnrollResponse>,
        why: &str,
    ) -> Result<String, Failure> {
        match exit {
            fleet::Exit::Enrolled(record) => {
                if let Some(answer) = answer {
                    warn(answer);
                }
                let name = &self.site.identity().name;
                Ok(format!(
                    "{name} is enrolled as {}; next, `subcloud-agent serve`",
                    record.subcloud
                ))
            }
            fleet::Exit::Refused(refusal) => Err(refused(&refusal)),
            fleet::Exit::TryLater(Some(refusal)) => {
                Err(Failure::new(Exit::TryAgain, refusal::text(&refusal.faults)))
            }
            fleet::Exit::TryLater(None) => Err(later(why)),
        }
    }
}

/// Where to go: the flag, or else what the token says.
fn controllers(
    options: &EnrollOptions,
    token: &EnrollmentToken,
) -> Result<Vec<SocketAddr>, Failure> {
    match &options.controller {
        None => Ok(token.controller().to_vec()),
        Some(url) => match endpoint_from_url(url) {
            Ok(endpoint) => Ok(vec![endpoint.0]),
            Err(problem) => Err(Failure::new(
                Exit::Usage,
                format!("--controller: {problem}"),
            )),
        },
    }
}

fn read_token(options: &EnrollOptions) -> Result<EnrollmentToken, Failure> {
    let text = match (&options.token, &options.token_file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) => read_token_file(path)?,
        (None, None) => String::new(),
    };
    EnrollmentToken::parse(&text)
        .map_err(|error| Failure::because(Exit::Usage, "this is no enrollment token", &error))
}

fn read_token_file(path: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(
            Exit::NoInput,
            format!("--token-file {}: {error}", path.display()),
        )
    };
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin()
            .take(LONGEST_TOKEN)
            .read_to_string(&mut text)
            .map_err(failed)?;
    } else {
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(LONGEST_TOKEN)
            .read_to_string(&mut text)
            .map_err(failed)?;
    }
    Ok(text)
}

/// Whom the site obeys from now on, as the controller says.
fn record(answer: &EnrollResponse) -> Result<AgentRecord, Failure> {
    let wrong = |error: &dyn std::error::Error| {
        Failure::because(
            Exit::Software,
            "the controller's answer cannot be read",
            error,
        )
    };
    Ok(AgentRecord {
        subcloud: SubcloudId(
            Uuid::try_parse(&answer.subcloud_uuid).map_err(|error| wrong(&error))?,
        ),
        owner: controller_from_text(&answer.controller_uuid).map_err(|error| wrong(&error))?,
        epoch: Epoch(answer.epoch),
        controllers: endpoints(&answer.controllers).map_err(|error| wrong(&error))?,
        // The pinned authority of the token is the one that signed the certificate.
        authority: None,
        alternates: fleet::Alternates::default(),
        networks: None,
    })
}

fn warn(answer: &EnrollResponse) {
    for warning in &answer.warnings {
        eprintln!(
            "warning: {}: {}; {}",
            warning.reason, warning.message, warning.remedy
        );
    }
}

fn make_key() -> Result<LeafKey, Failure> {
    LeafKey::generate()
        .map_err(|error| Failure::because(Exit::Software, "cannot make a key", &error))
}

fn refused(refusal: &Refusal) -> Failure {
    Failure::new(Exit::Refused, refusal::text(&refusal.faults))
}

fn later(why: &str) -> Failure {
    Failure::new(
        Exit::TryAgain,
        format!("{why}; try again later, with the same token"),
    )
}

fn no_source(why: &str) -> Failure {
    let advice = "give this host its link address, or name another one with --link-source";
    Failure::new(Exit::Unavailable, format!("{why}; {advice}"))
}

fn no_key() -> Failure {
    Failure::new(
        Exit::Software,
        "the enrollment has no key or no answer to keep",
    )
}
