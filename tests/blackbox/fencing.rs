//! An agent takes no command of a term that is over. No controller of ours gives one, for it hears
//! the agent's term first; so the test takes a controller's place, with the key that is on its
//! disk, as somebody could who brought an old copy of it back.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::SystemTime;

use api::fleet_v1::command_result::Outcome;
use api::fleet_v1::link_service_server::{LinkService, LinkServiceServer};
use api::fleet_v1::{
    Command, CommandChunk, CommandResult, ExchangeRequest, ExchangeResponse, Welcome,
    exchange_request, exchange_response,
};
use api::site_v1::{GetSiteResponse, UpdateDnsRequest};
use api::store_v1::AuthorityRecord;
use futures_util::Stream;
use identity::{
    Acceptor, Ca, CaParts, ClientCertificates, LeafKey, Limits, ServingCertificate, server_config,
};
use prost::Message as _;
use store::{Key, Store};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::cloud::{Controller, Subcloud};
use crate::support::{PATIENCE, scratch};

const UPDATE_DNS: &str = "/tandem.site.v1.SiteService/UpdateDns";
const GET_SITE: &str = "/tandem.site.v1.SiteService/GetSite";

/// The term of a subcloud that has just enrolled.
const TERM: u64 = 1;

#[test]
fn a_command_of_an_older_term_is_refused_and_changes_nothing() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    let site = Bootstrap::subcloud("west", 1, Stack::V6);
    let west = Subcloud::join(&dir.path().join("west"), site, &controller);
    let address: SocketAddr = controller.daemon().ready.link.parse().expect("an address");
    let before = west
        .tandem(&["system", "site-show", "-f", "json"])
        .expect(0);
    controller.stop();

    let servers = vec!["fd00::53".to_owned()];
    let change = UpdateDnsRequest {
        servers,
        ..UpdateDnsRequest::default()
    };
    let ask = |id, epoch, method: &str, request| Command {
        id,
        epoch,
        method: method.to_owned(),
        request,
        timeout_milliseconds: 10_000,
        actor: "operator/admin/alice".to_owned(),
    };
    let commands = [
        ask(1, TERM - 1, UPDATE_DNS, change.encode_to_vec()),
        ask(2, TERM, GET_SITE, Vec::new()),
    ];
    let authority = authority(&controller);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let results = runtime.block_on(in_its_place(&authority, address, &commands));

    let [old, present] = results.try_into().expect("an answer to each");
    let Some(Outcome::Failure(failure)) = old.outcome else {
        panic!("a command of an older term was carried out");
    };
    let status = Status::with_details(
        Code::from(failure.code),
        failure.message,
        failure.details.into(),
    );
    let info = status.get_details_error_info().expect("a reason");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(info.reason, "STALE_EPOCH");
    let term = |key: &str| info.metadata[key].clone();
    assert_eq!((&*term("epoch"), &*term("obeyedEpoch")), ("0", "1"));
    // In its own term the agent obeys, so it is the term that made the difference.
    let Some(Outcome::Answer(answer)) = present.outcome else {
        panic!("a command of the present term was refused");
    };
    let shown = GetSiteResponse::decode(answer.as_slice()).expect("the site");
    assert_eq!(shown.site.expect("the site").name, "west");
    let after = west
        .tandem(&["system", "site-show", "-f", "json"])
        .expect(0);
    assert_eq!(after.stdout, before.stdout);
    let log = std::fs::read_to_string(dir.path().join("west/log")).expect("its log");
    let counted = log.lines().filter(|line| line.contains("older term"));
    let counted: Vec<&str> = counted.collect();
    assert!(
        matches!(counted[..], [line] if line.contains("total=1")),
        "{counted:?}"
    );
}

/// The certificate authority on a controller's disk.
fn authority(controller: &Controller) -> Ca {
    let store = Store::open(&controller.state_dir()).expect("the state");
    let key = Key::new("authority").expect("a key");
    let record = store.get(&key).expect("readable").expect("an authority");
    let AuthorityRecord {
        private_key,
        certificate,
    } = AuthorityRecord::decode(record.value.as_slice()).expect("an authority");
    let parts = CaParts {
        certificate_der: certificate,
        key_pkcs8_der: private_key,
    };
    Ca::from_parts(&parts).expect("an authority")
}

/// Welcomes the agent that comes to `address`, gives it the commands, and returns its answers.
async fn in_its_place(
    authority: &Ca,
    address: SocketAddr,
    commands: &[Command],
) -> Vec<CommandResult> {
    let key = LeafKey::generate().expect("a key");
    let validity = std::time::Duration::from_secs(3600);
    let issued = authority.issue_controller(&key, &[address.ip()], SystemTime::now(), validity);
    let issued = issued.expect("a certificate");
    let serving = ServingCertificate::new(authority.certificate(), &issued, &key);
    let tls = server_config(
        authority,
        serving.expect("a certificate"),
        ClientCertificates::Optional,
    );
    let listener = TcpListener::bind(address)
        .await
        .expect("its address is free");
    let stop = CancellationToken::new();
    let acceptor = Acceptor::new(
        listener,
        tls.expect("a configuration"),
        authority.trust_domain(),
        Limits::default(),
        stop.clone(),
    );
    let (answered, mut answers) = mpsc::channel(commands.len());
    let welcome = Welcome {
        controller: authority.trust_domain().to_string(),
        epoch: TERM,
        heartbeat_interval_milliseconds: 60_000,
        controllers: vec![format!("https://{address}")],
        ..Welcome::default()
    };
    let links = Links {
        welcome,
        commands: commands.to_vec(),
        answered,
    };
    let serving = Server::builder()
        .add_service(LinkServiceServer::new(links))
        .serve_with_incoming(acceptor.into_stream());
    let serving = tokio::spawn(serving);
    let mut results: Vec<CommandResult> = Vec::new();
    while results.len() < commands.len() {
        let answer = tokio::time::timeout(PATIENCE, answers.recv()).await;
        results.push(answer.expect("an answer in time").expect("it serves"));
    }
    results.sort_by_key(|result| result.id);
    serving.abort();
    stop.cancel();
    results
}

/// The link service of whoever has taken the controller's place.
struct Links {
    welcome: Welcome,
    commands: Vec<Command>,
    answered: mpsc::Sender<CommandResult>,
}

#[tonic::async_trait]
impl LinkService for Links {
    type ExchangeStream = Pin<Box<dyn Stream<Item = Result<ExchangeResponse, Status>> + Send>>;

    async fn exchange(
        &self,
        request: Request<Streaming<ExchangeRequest>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let mut incoming = request.into_inner();
        let (say, said) = mpsc::channel(8);
        let (answered, commands) = (self.answered.clone(), self.commands.clone());
        let welcome = exchange_response::Message::Welcome(self.welcome.clone());
        tokio::spawn(async move {
            let mut parts = Vec::new();
            while let Ok(Some(ExchangeRequest { message })) = incoming.message().await {
                match message {
                    Some(exchange_request::Message::Hello(_)) => {
                        let words = commands.iter().map(|command| {
                            exchange_response::Message::CommandChunk(CommandChunk {
                                data: command.encode_to_vec(),
                                last: true,
                            })
                        });
                        for message in std::iter::once(welcome.clone()).chain(words) {
                            let message = Some(message);
                            say.send(Ok(ExchangeResponse { message }))
                                .await
                                .expect("heard");
                        }
                    }
                    Some(exchange_request::Message::CommandResultChunk(chunk)) => {
                        parts.extend_from_slice(&chunk.data);
                        if chunk.last {
                            let whole = std::mem::take(&mut parts);
                            let result = CommandResult::decode(whole.as_slice());
                            answered
                                .send(result.expect("a result"))
                                .await
                                .expect("heard");
                        }
                    }
                    _ => {}
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(said))))
    }
}
