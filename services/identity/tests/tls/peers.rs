//! A listener that trusts the authorities of peers beside its own.

use std::sync::Arc;

use identity::{
    Identity, ServerRejection, Trust, link_server_config, peer_client_config, pinned_client_config,
};
use rcgen::ExtendedKeyUsagePurpose;
use uuid::Uuid;

use crate::support::{Controller, LOOPBACKS, Outcome, SUBCLOUD, Server};

async fn listen(controller: &Controller, trust: &Arc<Trust>) -> Server {
    let config =
        link_server_config(&controller.ca, trust, Arc::clone(&controller.serving)).expect("valid");
    controller.trusting(config, trust, LOOPBACKS[0]).await
}

/// What `client` may do at `server`: it dials with its own controller's certificate.
async fn dial(server: &mut Server, to: &Controller, client: &Controller) -> Outcome {
    let (ca, domain) = (to.ca.spki_sha256(), to.ca.trust_domain());
    let config = peer_client_config(ca, domain, Arc::clone(&client.serving));
    server.exchange(&config.expect("a configuration")).await
}

#[tokio::test]
async fn a_peer_is_trusted_from_the_moment_that_it_is_named_until_it_is_not() {
    let (a, b) = (Controller::new(1), Controller::new(2));
    let trust = Trust::new(a.ca.certificate().clone()).expect("trust");
    let mut server = listen(&a, &trust).await;
    assert_eq!(
        dial(&mut server, &a, &b).await.summary(),
        "refused by the server"
    );

    trust.replace([b.ca.certificate().clone()]).expect("usable");
    let (authority, certificate) = match dial(&mut server, &a, &b).await {
        Outcome::Served {
            certificate,
            authority,
            ..
        } => (authority, certificate.expect("shown")),
        refused => panic!("{refused:?}"),
    };
    assert_eq!(certificate.identity, Identity::Controller);
    assert_eq!(certificate.trust_domain, b.ca.trust_domain());
    assert_eq!(authority, Some(b.ca.spki_sha256()));

    // Its subclouds too, with its authority to tell them from the own ones.
    let (der, key) = b.subcloud(std::time::SystemTime::now());
    let (ca, domain) = (a.ca.spki_sha256(), a.ca.trust_domain());
    let agent = pinned_client_config(ca, domain, der, &key).expect("a configuration");
    match server.exchange(&agent).await {
        Outcome::Served {
            certificate,
            authority,
            ..
        } => {
            let certificate = certificate.expect("shown");
            assert_eq!(certificate.identity, Identity::Subcloud(SUBCLOUD));
            assert_eq!(authority, Some(b.ca.spki_sha256()));
        }
        refused => panic!("{refused:?}"),
    }

    // A session of before is not resumed into a trust that has ended.
    trust.replace([]).expect("usable");
    let again = server.exchange(&agent).await;
    assert_eq!(again.summary(), "refused by the server");
}

#[tokio::test]
async fn an_authority_speaks_for_its_own_trust_domain_alone() {
    let (a, b) = (Controller::new(1), Controller::new(2));
    let trust = Trust::new(a.ca.certificate().clone()).expect("trust");
    trust.replace([b.ca.certificate().clone()]).expect("usable");
    let mut server = listen(&a, &trust).await;
    let of_a = format!("spiffe://{}/controller", a.ca.trust_domain());
    let forged = b.odd(&[of_a.as_str()], ExtendedKeyUsagePurpose::ClientAuth);
    let (ca, domain) = (a.ca.spki_sha256(), a.ca.trust_domain());
    let config = pinned_client_config(ca, domain, forged.der, &b.key).expect("a configuration");
    let outcome = server.exchange(&config).await;
    assert_eq!(outcome.summary(), "refused by the server");

    // And one that has the same trust domain but another key is another authority.
    let impostor = Controller::new(2);
    let outcome = dial(&mut server, &a, &impostor).await;
    assert_eq!(outcome.summary(), "refused by the server");
    let outcome = dial(&mut server, &a, &b).await;
    assert_eq!(outcome.summary(), "served controller");
    trust.replace([]).expect("usable");
    assert!(trust.knows(a.ca.trust_domain()) && !trust.knows(b.ca.trust_domain()));
}

#[tokio::test]
async fn a_dialled_controller_must_be_the_named_one_under_the_named_authority() {
    let (a, b) = (Controller::new(1), Controller::new(2));
    let trust = Trust::new(a.ca.certificate().clone()).expect("trust");
    trust.replace([b.ca.certificate().clone()]).expect("usable");
    let mut server = listen(&a, &trust).await;
    let (der, key) = b.subcloud(std::time::SystemTime::now());
    let other_domain = Uuid::from_bytes([9; 16]);
    let mut rejection = async |pin, domain| {
        let config = pinned_client_config(pin, domain, der.clone(), &key);
        match server.exchange(&config.expect("a configuration")).await {
            Outcome::RefusedByClient(identity::ConnectError::Rejected(rejection)) => rejection,
            other => panic!("{other:?}"),
        }
    };
    let wrong = rejection(b.ca.spki_sha256(), a.ca.trust_domain()).await;
    assert!(
        matches!(wrong, ServerRejection::WrongPin { .. }),
        "{wrong:?}"
    );
    let wrong = rejection(a.ca.spki_sha256(), other_domain).await;
    assert!(
        matches!(wrong, ServerRejection::Certificate(_)),
        "{wrong:?}"
    );
}
