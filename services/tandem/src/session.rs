//! One connection to a daemon, and how calls are made on it.

use std::time::Duration;

use api::fleet_v1::alarm_service_client::AlarmServiceClient;
use api::fleet_v1::operator_service_client::OperatorServiceClient;
use api::fleet_v1::peer_service_client::PeerServiceClient;
use api::fleet_v1::rollout_service_client::RolloutServiceClient;
use api::fleet_v1::subcloud_group_service_client::SubcloudGroupServiceClient;
use api::fleet_v1::subcloud_service_client::SubcloudServiceClient;
use api::site_v1::network_service_client::NetworkServiceClient;
use api::site_v1::site_service_client::SiteServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::endpoint::{Credentials, Endpoint};
use crate::failure::Failure;

/// The longest that one call may take. A durable change needs milliseconds; 30 s leaves room
/// for a controller that is starting, and for one page of the largest fleet over a slow line.
pub(crate) const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// Entries asked for at once: few round trips, and well under the limit of a message.
pub(crate) const PAGE_SIZE: i32 = 500;

/// The largest answer that is read. A page of pools carries all of their allocated addresses.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Where the daemon is, and who asks.
#[derive(Debug)]
pub(crate) struct Target {
    /// Where it answers.
    pub(crate) endpoint: Endpoint,
    /// What proves who asks.
    pub(crate) credentials: Credentials,
    /// The subcloud whose site is meant; `None` for the daemon's own.
    pub(crate) subcloud: Option<Subcloud>,
    /// The id of the change; empty for one that is not to be repeated.
    pub(crate) request_id: String,
}

/// The name or the uuid of a subcloud, as metadata.
pub(crate) type Subcloud = MetadataValue<Ascii>;

/// The metadata that sends a call of a site's services to a subcloud.
const SUBCLOUD_METADATA: &str = "tandem-subcloud";

impl Target {
    /// A session over a new connection.
    ///
    /// # Errors
    /// Those of [`Endpoint::connect`].
    pub(crate) async fn session(&self, dry_run: bool) -> Result<Session, Failure> {
        let channel = self.endpoint.connect(&self.credentials).await?;
        Ok(Session {
            channel,
            dry_run,
            subcloud: self.subcloud.clone(),
            request_id: self.request_id.clone(),
        })
    }
}

/// The transport below every client.
pub(crate) type Wire = InterceptedService<Channel, Attached>;

/// A connected daemon, and whether changes are only previewed.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    channel: Channel,
    dry_run: bool,
    subcloud: Option<Subcloud>,
    request_id: String,
}

impl Session {
    /// Whether changes are only previewed (`validate_only`).
    pub(crate) fn dry_run(&self) -> bool {
        self.dry_run
    }

    /// The id of the change: a daemon that knows it makes the change once and answers the same.
    pub(crate) fn request_id(&self) -> String {
        self.request_id.clone()
    }

    /// Advice of the site as it is told here: that of a subcloud acts on its own site.
    pub(crate) fn advice(&self, text: String) -> String {
        match self.subcloud.as_ref().map(MetadataValue::to_str) {
            Some(Ok(subcloud)) => site::advice_at(&text, subcloud),
            Some(Err(_)) | None => text,
        }
    }

    /// Networks, pools and associations of the site.
    pub(crate) fn networks(&self) -> NetworkServiceClient<Wire> {
        let client = NetworkServiceClient::new(self.wire(Deadline::Call));
        client.max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// The rest of the site.
    pub(crate) fn site(&self) -> SiteServiceClient<Wire> {
        let client = SiteServiceClient::new(self.wire(Deadline::Call));
        client.max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// The site, for a stream that has no end: the server is told no deadline.
    pub(crate) fn endless_site(&self) -> SiteServiceClient<Wire> {
        let client = SiteServiceClient::new(self.wire(Deadline::Never));
        client.max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// The controller's operators and their deeds.
    pub(crate) fn operators(&self) -> OperatorServiceClient<Wire> {
        let client = OperatorServiceClient::new(self.wire(Deadline::Call));
        client.max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// The subclouds, for a stream that has no end: the server is told no deadline.
    pub(crate) fn endless_subclouds(&self) -> SubcloudServiceClient<Wire> {
        let client = SubcloudServiceClient::new(self.wire(Deadline::Never));
        client.max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// The subclouds of the controller.
    pub(crate) fn subclouds(&self) -> SubcloudServiceClient<Wire> {
        let client = SubcloudServiceClient::new(self.wire(Deadline::Call));
        client.max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// The groups of subclouds of the controller.
    pub(crate) fn groups(&self) -> SubcloudGroupServiceClient<Wire> {
        let client = SubcloudGroupServiceClient::new(self.wire(Deadline::Call));
        client.max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// System peers of the controller, and what is shared with them.
    pub(crate) fn peers(&self) -> PeerServiceClient<Wire> {
        let client = PeerServiceClient::new(self.wire(Deadline::Call));
        client.max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// Alarms of the subclouds.
    pub(crate) fn alarms(&self) -> AlarmServiceClient<Wire> {
        let client = AlarmServiceClient::new(self.wire(Deadline::Call));
        client.max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// Rollouts of the controller.
    pub(crate) fn rollouts(&self) -> RolloutServiceClient<Wire> {
        let client = RolloutServiceClient::new(self.wire(Deadline::Call));
        client.max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// Rollouts, for a stream that lasts as long as one does.
    pub(crate) fn endless_rollouts(&self) -> RolloutServiceClient<Wire> {
        let client = RolloutServiceClient::new(self.wire(Deadline::Never));
        client.max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    fn wire(&self, deadline: Deadline) -> Wire {
        let attached = Attached {
            deadline,
            subcloud: self.subcloud.clone(),
        };
        InterceptedService::new(self.channel.clone(), attached)
    }
}

/// Tells the server the deadline too, so that it stops working for nobody.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deadline {
    /// [`CALL_DEADLINE`]: one question, one answer.
    Call,
    /// None: a stream that lasts until one side ends it.
    Never,
}

/// What every call carries besides its request.
#[derive(Debug, Clone)]
pub(crate) struct Attached {
    deadline: Deadline,
    subcloud: Option<Subcloud>,
}

impl Interceptor for Attached {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        match self.deadline {
            Deadline::Call => request.set_timeout(CALL_DEADLINE),
            Deadline::Never => {}
        }
        if let Some(subcloud) = &self.subcloud {
            let metadata = request.metadata_mut();
            metadata.insert(SUBCLOUD_METADATA, subcloud.clone());
        }
        Ok(request)
    }
}

/// Waits for the answer of a call, at most [`CALL_DEADLINE`].
pub(crate) async fn call<Message>(
    answer: impl Future<Output = Result<Response<Message>, Status>>,
) -> Result<Message, Failure> {
    match tokio::time::timeout(CALL_DEADLINE, answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(status.into()),
        Err(_) => Err(Failure::deadline(CALL_DEADLINE.as_secs())),
    }
}

/// All entries of a list: `page` gets a page token and gives the entries and the next token.
pub(crate) async fn every_page<Entry>(
    mut page: impl AsyncFnMut(String) -> Result<(Vec<Entry>, String), Failure>,
) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    let mut token = String::new();
    loop {
        let (more, next) = page(token.clone()).await?;
        entries.extend(more);
        if next.is_empty() {
            return Ok(entries);
        }
        if next == token {
            return Err(Failure::bad_answer(
                "the daemon gave the same page token twice",
            ));
        }
        token = next;
    }
}

/// The part of an answer that the contract promises.
pub(crate) fn promised<Part>(part: Option<Part>, name: &str) -> Result<Part, Failure> {
    part.ok_or_else(|| Failure::bad_answer(format!("the daemon's answer has no {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[tokio::test(start_paused = true)]
    async fn a_silent_daemon_ends_at_the_deadline() {
        let started = tokio::time::Instant::now();
        let failure = call::<()>(std::future::pending())
            .await
            .expect_err("a deadline");
        assert_eq!(started.elapsed(), CALL_DEADLINE);
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(
            failure
                .render(false)
                .starts_with("error: DEADLINE_EXCEEDED: ")
        );
    }

    #[tokio::test]
    async fn a_page_token_that_repeats_is_an_error_and_not_a_loop() {
        let same = async |_token| Ok((vec![1], "again".to_owned()));
        let failure = every_page(same).await.expect_err("a bad answer");
        assert_eq!(failure.exit, Exit::BadAnswer);
    }
}
