//! Who trusts whom, over every loopback address.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use identity::{
    CONTROLLER_VALIDITY, ClientCertificates, LeafKey, SUBCLOUD_VALIDITY, SpkiSha256,
    enroll_client_config, link_client_config, operator_client_config, pinned_ca, server_config,
};
use rcgen::ExtendedKeyUsagePurpose;
use rustls::{ClientConfig, HandshakeKind};

use crate::support::{Controller, LOOPBACKS, Outcome, SUBCLOUD};

const DAY: Duration = Duration::from_hours(24);

/// Connects over each loopback address and compares the outcome's summary.
async fn check(
    controller: &Controller,
    clients: ClientCertificates,
    config: &Arc<ClientConfig>,
    expected: &str,
) {
    for address in LOOPBACKS {
        let mut server = controller.listen(clients, address).await;
        let outcome = server.exchange(config).await;
        let summary = outcome.summary();
        assert!(
            summary.contains(expected),
            "{address}: {summary}, expected {expected}"
        );
        if matches!(outcome, Outcome::RefusedByServer) {
            server.until(|counts| counts.handshake_failed == 1).await;
        }
    }
}

fn link(trusted: &Controller, issuer: &Controller) -> Arc<ClientConfig> {
    let (certificate, key) = issuer.subcloud(SystemTime::now());
    link_client_config(trusted.ca.certificate(), certificate, &key).expect("a configuration")
}

#[tokio::test]
async fn those_who_belong_are_served() {
    use ClientCertificates::{Optional, Required};
    let controller = Controller::new(1);
    let pem = controller.ca.certificate_pem();
    let (certificate, key) = controller.operator();
    let enroll = enroll_client_config(controller.ca.spki_sha256()).expect("a configuration");
    let link = link(&controller, &controller);
    let operator = operator_client_config(&pem, Some((&certificate, &key))).expect("a match");
    let stranger = operator_client_config(&pem, None).expect("a configuration");
    let subcloud = format!("served subcloud/{SUBCLOUD}");

    check(&controller, Optional, &enroll, "served nobody").await;
    check(&controller, Optional, &link, &subcloud).await;
    check(
        &controller,
        Optional,
        &operator,
        "served operator/admin/alice",
    )
    .await;
    check(&controller, Optional, &stranger, "served nobody").await;
    check(&controller, Required, &link, &subcloud).await;
    check(
        &controller,
        Required,
        &operator,
        "served operator/admin/alice",
    )
    .await;
    check(&controller, Required, &enroll, "refused by the server").await;
    check(&controller, Required, &stranger, "refused by the server").await;
}

#[tokio::test]
async fn an_agent_learns_the_ca_behind_the_pin() {
    let controller = Controller::new(1);
    let pin = controller.ca.spki_sha256();
    let mut server = controller
        .listen(ClientCertificates::Optional, LOOPBACKS[1])
        .await;
    let config = enroll_client_config(pin).expect("a configuration");
    let Outcome::Served { stream, .. } = server.exchange(&config).await else {
        panic!("the pin is right");
    };
    let ca = pinned_ca(&stream, pin).expect("verified in the handshake");
    assert_eq!(&ca, controller.ca.certificate());
    assert_eq!(ca.trust_domain(), controller.ca.trust_domain());
}

#[tokio::test]
async fn an_agent_refuses_a_false_controller_and_says_why() {
    let controller = Controller::new(1);
    let other = Controller::new(1);
    let optional = ClientCertificates::Optional;
    let enroll = |pin: SpkiSha256| enroll_client_config(pin).expect("a configuration");
    let own = enroll(controller.ca.spki_sha256());
    // A session that was once begun with the true controller would be resumed unasked.
    let link = || link(&controller, &controller);

    let wrong = enroll(other.ca.spki_sha256());
    check(&controller, optional, &wrong, "not the one that is pinned").await;
    // The key of the controller's own certificate is not that of its CA.
    let leaf = enroll(controller.key.spki_sha256());
    check(&controller, optional, &leaf, "not the one that is pinned").await;
    check(&other, optional, &link(), "not signed by the expected CA").await;

    let dated = |now| {
        let issued = controller
            .ca
            .issue_controller(&controller.key, &[], now, SUBCLOUD_VALIDITY);
        controller.present(&issued.expect("a certificate"));
    };
    dated(SystemTime::now() - 2 * DAY);
    for config in [&own, &link()] {
        check(&controller, optional, config, "has expired").await;
    }
    dated(SystemTime::now() + DAY);
    for config in [&own, &link()] {
        check(&controller, optional, config, "not valid yet").await;
    }

    let td = controller.ca.trust_domain();
    let name = format!("spiffe://{td}/controller");
    let somebody = format!("spiffe://{td}/operator/admin/mallory");
    let abroad = "spiffe://02020202-0202-0202-0202-020202020202/controller";
    let server = || ExtendedKeyUsagePurpose::ServerAuth;
    for (uri, purpose, expected) in [
        (&*name, server(), "served"),
        (
            &*name,
            ExtendedKeyUsagePurpose::ClientAuth,
            "not meant for servers",
        ),
        (&*somebody, server(), "names operator/admin/mallory"),
        (abroad, server(), "trust domain"),
    ] {
        controller.present(&controller.odd(&[uri], purpose));
        for config in [&own, &link()] {
            check(&controller, optional, config, expected).await;
        }
    }
}

#[tokio::test]
async fn the_controller_refuses_false_clients() {
    let controller = Controller::new(1);
    let other = Controller::new(1);
    for clients in [ClientCertificates::Optional, ClientCertificates::Required] {
        // A certificate of another CA, even one that uses the same trust domain.
        let foreign = link(&controller, &other);
        check(&controller, clients, &foreign, "refused by the server").await;
        let (certificate, key) = controller.subcloud(SystemTime::now() - 2 * DAY);
        let expired = link_client_config(controller.ca.certificate(), certificate, &key);
        let expired = expired.expect("a configuration");
        check(&controller, clients, &expired, "refused by the server").await;
    }
}

#[tokio::test]
async fn sessions_are_resumed_with_their_identity() {
    let controller = Controller::new(1);
    let link = link(&controller, &controller);
    for address in LOOPBACKS {
        let mut server = controller
            .listen(ClientCertificates::Optional, address)
            .await;
        let (first, kind) = server.exchange(&link).await.served();
        assert_eq!(kind, HandshakeKind::Full);
        for _ in 0..3 {
            let (again, kind) = server.exchange(&link).await.served();
            assert_eq!(kind, HandshakeKind::Resumed);
            assert_eq!(again, first);
        }
        let counts = server.connections.counts();
        assert_eq!((counts.established, counts.resumed), (4, 3));

        // Renewing the controller's certificate costs nobody the session.
        let now = SystemTime::now();
        let renewed =
            controller
                .ca
                .issue_controller(&controller.key, &[], now, CONTROLLER_VALIDITY);
        controller.present(&renewed.expect("a certificate"));
        assert_eq!(
            server.exchange(&link).await.served().1,
            HandshakeKind::Resumed
        );
    }
}

#[tokio::test]
async fn a_ticket_is_good_after_a_restart_but_only_where_as_much_is_demanded() {
    use ClientCertificates::{Optional, Required};
    let controller = Controller::new(1);
    let config = link(&controller, &controller);
    for (clients, kind) in [
        (Optional, HandshakeKind::Full),
        (Optional, HandshakeKind::Resumed),
        (Required, HandshakeKind::Full),
    ] {
        // A listener of its own each time, with a configuration of its own.
        let mut server = controller.listen(clients, LOOPBACKS[0]).await;
        assert_eq!(server.exchange(&config).await.served().1, kind);
    }
}

#[test]
fn tickets_die_before_certificates() {
    let controller = Controller::new(1);
    let serving = Arc::clone(&controller.serving);
    let config =
        server_config(&controller.ca, serving, ClientCertificates::Optional).expect("valid");
    let lifetime = Duration::from_secs(config.ticketer.lifetime().into());
    assert!(
        config.ticketer.enabled() && lifetime <= SUBCLOUD_VALIDITY,
        "{lifetime:?}"
    );
}

#[test]
fn parts_that_do_not_match_are_refused() {
    let controller = Controller::new(1);
    let pem = controller.ca.certificate_pem();
    let (certificate, key) = controller.operator();
    let (_, other_key) = controller.operator();
    let refusal = |ca: &str, operator| {
        let refused = operator_client_config(ca, Some(operator));
        refused.expect_err("refused").to_string()
    };
    for (found, part) in [
        (
            refusal(&pem, (&certificate, &other_key)),
            "cannot be used for TLS",
        ),
        (refusal(&pem, ("", &key)), "no PEM block CERTIFICATE"),
        (
            refusal(&pem, (&certificate, "")),
            "private key cannot be read",
        ),
        (
            refusal(&certificate, (&certificate, &key)),
            "not that of a controller's CA",
        ),
    ] {
        assert!(found.contains(part), "{found}");
    }
    let stranger = LeafKey::generate().expect("a key");
    let (der, _) = controller.subcloud(SystemTime::now());
    link_client_config(controller.ca.certificate(), der, &stranger).expect_err("another key");
}
