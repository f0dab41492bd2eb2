//! The services about the fleet, as operators call them.

use std::net::SocketAddr;
use std::sync::Arc;

use api::fleet_v1::alarm_service_server::{self, AlarmServiceServer};
use api::fleet_v1::operator_service_server::{self, OperatorServiceServer};
use api::fleet_v1::peer_service_server::{self, PeerServiceServer};
use api::fleet_v1::subcloud_group_service_server::{self, SubcloudGroupServiceServer};
use api::fleet_v1::subcloud_service_server::{self, SubcloudServiceServer};
use daemon::Life;
use identity::Ca;
use tonic::service::RoutesBuilder;

use crate::grpc::{Alarms, Groups, Operators, Peers, Subclouds, TokenIssuer};
use crate::hub::Hub;

/// Their names.
pub(crate) const OPERATOR_SERVICES: [&str; 5] = [
    subcloud_service_server::SERVICE_NAME,
    subcloud_group_service_server::SERVICE_NAME,
    alarm_service_server::SERVICE_NAME,
    operator_service_server::SERVICE_NAME,
    peer_service_server::SERVICE_NAME,
];

/// What operators may ask of the fleet, all but rollouts.
pub(crate) struct OperatorServices {
    subclouds: SubcloudServiceServer<Subclouds>,
    groups: SubcloudGroupServiceServer<Groups>,
    people: OperatorServiceServer<Operators>,
    peers: PeerServiceServer<Peers>,
    alarms: AlarmServiceServer<Alarms>,
}

impl OperatorServices {
    /// Those of a running fleet; `link` is where agents find it.
    pub(crate) fn of(life: &Life, hub: &Arc<Hub>, authority: &Arc<Ca>, link: SocketAddr) -> Self {
        let most = daemon::MAX_OPERATOR_MESSAGE_BYTES;
        let tokens = Arc::new(TokenIssuer {
            authority: authority.spki_sha256(),
            link,
        });
        let subclouds = SubcloudServiceServer::new(Subclouds {
            hub: Arc::clone(hub),
            tokens,
            answers: Arc::default(),
            life: life.clone(),
        });
        let groups = SubcloudGroupServiceServer::new(Groups {
            hub: Arc::clone(hub),
        });
        let people = OperatorServiceServer::new(Operators {
            hub: Arc::clone(hub),
            authority: Arc::clone(authority),
            answers: Arc::default(),
        });
        let peers = PeerServiceServer::new(Peers {
            hub: Arc::clone(hub),
            answers: Arc::default(),
        });
        let alarms = AlarmServiceServer::new(Alarms(Arc::clone(hub)));
        Self {
            subclouds: subclouds.max_decoding_message_size(most),
            groups: groups.max_decoding_message_size(most),
            people,
            peers: peers.max_decoding_message_size(most),
            alarms: alarms.max_decoding_message_size(most),
        }
    }

    /// Serves them.
    pub(crate) fn add_to(self, routes: &mut RoutesBuilder) {
        routes
            .add_service(self.subclouds)
            .add_service(self.groups)
            .add_service(self.people)
            .add_service(self.peers)
            .add_service(self.alarms);
    }
}
