//! Many live agents in this process: their sites are kept in memory, and all that they say is said
//! by the agent's own code.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use api::fleet_v1::AddSubcloudRequest;
use api::fleet_v1::subcloud_service_client::SubcloudServiceClient;
use daemon::Life;
use site::bootstrap;
use subcloud_agent::{InProcess, LinkState};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use uuid::Uuid;

use super::bootstrap::Bootstrap;

/// Streams of one connection of operators.
const CALLS_AT_A_TIME: usize = 16;
/// Enrollments at a time; each is a handshake at both ends.
const ENROLLMENTS_AT_A_TIME: usize = 32;

/// A subcloud that was added and installed.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) agent: InProcess,
    pub(crate) token: String,
    pub(crate) name: String,
}

/// Agents that keep their links until the crowd is dropped.
#[derive(Debug)]
pub(crate) struct Crowd {
    pub(crate) members: Vec<Member>,
    pub(crate) states: Vec<watch::Receiver<LinkState>>,
    life: Life,
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.life.stop();
    }
}

/// Adds `count` subclouds at a controller and installs their sites; nothing is enrolled yet.
pub(crate) async fn installed(operators: &Channel, count: u16) -> Vec<Member> {
    install(added(std::slice::from_ref(operators), count).await).await
}

/// Adds `count` subclouds over these connections, as many at a time as each takes; their tokens,
/// by their numbers.
pub(crate) async fn added(operators: &[Channel], count: u16) -> Vec<String> {
    let room = || Arc::new(Semaphore::new(CALLS_AT_A_TIME));
    let operators: Vec<_> = operators.iter().map(|channel| (channel, room())).collect();
    let mut adding = JoinSet::new();
    for (number, (channel, room)) in (0..count).zip(operators.iter().cycle()) {
        let (room, channel) = (Arc::clone(room), (*channel).clone());
        adding.spawn(async move {
            let _place = room.acquire_owned().await.expect("open");
            let request = AddSubcloudRequest {
                name: Bootstrap::one_of_many(number).name,
                ..AddSubcloudRequest::default()
            };
            let mut client = SubcloudServiceClient::new(channel);
            let added = client.add_subcloud(request).await;
            (number, added.expect("added").into_inner().token)
        });
    }
    in_order(adding).await
}

/// Installs the sites of the first subclouds, one for each token.
pub(crate) async fn install(tokens: Vec<String>) -> Vec<Member> {
    let room = Arc::new(Semaphore::new(CALLS_AT_A_TIME));
    let mut installing = JoinSet::new();
    for (number, token) in (0..).zip(tokens) {
        let room = Arc::clone(&room);
        installing.spawn(async move {
            let _place = room.acquire_owned().await.expect("open");
            let file = Bootstrap::one_of_many(number);
            (number, member(&file, source(number), token).await)
        });
    }
    in_order(installing).await
}

async fn in_order<T: Send + 'static>(working: JoinSet<(u16, T)>) -> Vec<T> {
    let mut done = working.join_all().await;
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, done)| done).collect()
}

async fn member(file: &Bootstrap, from: IpAddr, token: String) -> Member {
    let declared = bootstrap::parse("crowd", file.yaml().as_bytes()).expect("a sound file");
    let site = declared.install(&mut || Uuid::from_u128(rand::random()));
    let agent = InProcess::install(&site.expect("a sound site"), Some(from)).await;
    Member {
        agent: agent.expect("an agent"),
        token,
        name: file.name.clone(),
    }
}

/// Each agent leaves from a loopback address of its own, as agents leave from their link addresses.
fn source(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, 100 + high, low, 1))
}

/// Enrolls everybody, as fast as it goes.
pub(crate) async fn enroll(members: Vec<Member>) -> Vec<Member> {
    let room = Arc::new(Semaphore::new(ENROLLMENTS_AT_A_TIME));
    let mut enrolling = JoinSet::new();
    for member in members {
        let room = Arc::clone(&room);
        enrolling.spawn(async move {
            let _place = room.acquire_owned().await.expect("open");
            member.agent.enroll(&member.token).await.expect("enrolled");
            member
        });
    }
    let mut members = enrolling.join_all().await;
    members.sort_by(|one, other| one.name.cmp(&other.name));
    members
}

impl Crowd {
    /// Serves everybody.
    pub(crate) fn serve(members: Vec<Member>) -> Self {
        let life = Life::default();
        let serve = |member: &Member| member.agent.serve(&life).expect("enrolled");
        let states = members.iter().map(serve).collect();
        Self {
            members,
            states,
            life,
        }
    }

    /// Waits until the controller has acknowledged everybody's state.
    pub(crate) async fn in_sync(&self, limit: Duration) {
        let all = async {
            for state in &self.states {
                let mut state = state.clone();
                let synced = state.wait_for(|state| state.acknowledged.is_some()).await;
                synced.expect("an agent that lives");
            }
        };
        let waited = tokio::time::timeout(limit, all).await;
        let missing = self.states.iter().filter(|state| !state.borrow().online);
        assert!(waited.is_ok(), "{} are not online", missing.count());
    }

    /// Waits until everybody has a link.
    pub(crate) async fn online(&self, limit: Duration) {
        let all = async {
            for state in &self.states {
                let mut state = state.clone();
                let linked = state.wait_for(|state| state.online).await;
                linked.expect("an agent that lives");
            }
        };
        let waited = tokio::time::timeout(limit, all).await;
        assert!(waited.is_ok(), "somebody has no link");
    }

    /// Begins to count the agents that lose their link.
    pub(crate) fn watch(&self) -> Losses {
        let (sender, losses) = watch::channel(Vec::new());
        for (state, member) in self.states.iter().zip(&self.members) {
            let (mut state, sender, name) = (state.clone(), sender.clone(), member.name.clone());
            tokio::spawn(async move {
                if state.wait_for(|state| !state.online).await.is_ok() {
                    sender.send_modify(|lost: &mut Vec<String>| lost.push(name));
                }
            });
        }
        Losses(losses)
    }
}

/// Who has lost the link since.
#[derive(Debug)]
pub(crate) struct Losses(watch::Receiver<Vec<String>>);

impl Losses {
    /// Their names.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.borrow().clone()
    }
}
