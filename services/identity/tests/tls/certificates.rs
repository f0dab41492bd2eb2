//! What the authority issues, and what is read from it.

use std::time::{Duration, SystemTime};

use identity::{
    Ca, CaCertificate, CaError, CaParts, CertificateError, Identity, LeafKey, PeerCertificate,
    Role, SUBCLOUD_VALIDITY, authenticate,
};
use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, PKCS_ECDSA_P384_SHA384, SanType,
};
use uuid::Uuid;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::support::{Controller, LOOPBACKS, SUBCLOUD};

const TD: &str = "01010101-0101-0101-0101-010101010101";

#[test]
fn an_authority_survives_its_parts() {
    let ca = Controller::new(1).ca;
    let again = Ca::from_parts(&ca.to_parts()).expect("own parts");
    assert_eq!(again.certificate(), ca.certificate());
    assert_eq!(again.trust_domain().to_string(), TD);
    assert_eq!(
        CaCertificate::from_pem(&ca.certificate_pem()).expect("own PEM"),
        *ca.certificate()
    );

    let other = Controller::new(1).ca.to_parts();
    let mixed = CaParts {
        key_pkcs8_der: other.key_pkcs8_der,
        ..ca.to_parts()
    };
    assert!(matches!(Ca::from_parts(&mixed), Err(CaError::KeyMismatch)));
    assert_eq!(format!("{mixed:?}"), "CaParts(redacted)");
}

#[test]
fn a_subcloud_gets_what_it_is_and_nothing_that_it_asks_for() {
    let ca = Controller::new(1).ca;
    let key = KeyPair::generate().expect("a key");
    let mut wish = CertificateParams::new(vec!["controller".to_owned()]).expect("a name");
    wish.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    wish.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let csr = wish.serialize_request(&key).expect("a request");
    let now = SystemTime::now();

    let issued = ca
        .issue_subcloud(csr.der(), SUBCLOUD, now, SUBCLOUD_VALIDITY)
        .expect("a certificate");

    let (_, x509) = X509Certificate::from_der(&issued.der).expect("a certificate");
    assert!(!x509.is_ca());
    let purposes = x509.extended_key_usage().expect("well-formed");
    let purposes = purposes.expect("present").value;
    assert!(purposes.client_auth && !purposes.server_auth && !purposes.any);
    let names = x509.subject_alternative_name().expect("well-formed");
    let uri = format!("spiffe://{TD}/subcloud/{SUBCLOUD}");
    assert_eq!(
        names.expect("present").value.general_names,
        [GeneralName::URI(&uri)]
    );
    assert_eq!(
        x509.public_key().subject_public_key.data,
        key.public_key_raw()
    );

    let details = &issued.details;
    assert_eq!(details.identity, Identity::Subcloud(SUBCLOUD));
    assert_eq!(
        *details,
        PeerCertificate::read(&issued.der, ca.trust_domain()).expect("own")
    );
    let left = details
        .not_after
        .duration_since(now)
        .expect("in the future");
    assert!(left <= SUBCLOUD_VALIDITY && left + Duration::from_secs(1) > SUBCLOUD_VALIDITY);
    assert!(
        details.not_before < now,
        "backdated for clocks that are behind"
    );
    let again = ca
        .issue_subcloud(csr.der(), SUBCLOUD, now, SUBCLOUD_VALIDITY)
        .expect("a certificate");
    assert_ne!(again.details.serial, details.serial);
}

#[test]
fn the_controller_has_its_addresses_beside_its_name() {
    let controller = Controller::new(1);
    let issued = controller
        .ca
        .issue_controller(
            &controller.key,
            &LOOPBACKS,
            SystemTime::now(),
            SUBCLOUD_VALIDITY,
        )
        .expect("a certificate");
    let (_, x509) = X509Certificate::from_der(&issued.der).expect("a certificate");
    let names = x509.subject_alternative_name().expect("well-formed");
    let mut v6 = [0; 16];
    v6[15] = 1;
    assert_eq!(
        names.expect("present").value.general_names,
        [
            GeneralName::URI(&format!("spiffe://{TD}/controller")),
            GeneralName::IPAddress(&[127, 0, 0, 1]),
            GeneralName::IPAddress(&v6),
        ]
    );
    assert_eq!(issued.details.identity, Identity::Controller);
    assert_eq!(issued.details.spki, controller.key.spki_sha256());
}

#[test]
fn bad_requests_are_told_apart() {
    let ca = Controller::new(1).ca;
    let check = |csr: &[u8], part: &str| {
        let refused = ca.issue_subcloud(csr, SUBCLOUD, SystemTime::now(), SUBCLOUD_VALIDITY);
        let error = refused.expect_err("refused").to_string();
        assert!(error.contains(part), "{error}");
    };
    let good = LeafKey::generate()
        .expect("a key")
        .csr_der()
        .expect("a request");
    check(b"", "is not a PKCS#10 request");
    check(&[good.as_ref(), b"x"].concat(), "is not a PKCS#10 request");
    check(&[0; 20_000], "longer than 16 KiB");

    // Somebody else's public key under the own signature proves nothing.
    let (own, other) = (
        KeyPair::generate().expect("a key"),
        KeyPair::generate().expect("a key"),
    );
    let request = CertificateParams::default().serialize_request(&own);
    let mut stolen = request.expect("a request").der().to_vec();
    let point = own.public_key_raw();
    let mut windows = stolen.windows(point.len());
    let at = windows
        .position(|window| window == point)
        .expect("the key is in it");
    stolen[at..at + point.len()].copy_from_slice(other.public_key_raw());
    check(&stolen, "is not signed with the private key");

    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key");
    let csr = CertificateParams::default()
        .serialize_request(&p384)
        .expect("a request");
    check(csr.der(), "not on the curve P-256");
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let csr = CertificateParams::default()
        .serialize_request(&ed25519)
        .expect("a request");
    check(csr.der(), "not on the curve P-256");
}

#[test]
fn an_impossible_validity_is_refused() {
    let ca = Controller::new(1).ca;
    let csr = LeafKey::generate()
        .expect("a key")
        .csr_der()
        .expect("a request");
    for validity in [
        Duration::ZERO,
        Duration::MAX,
        Duration::from_hours(24 * 366 * 9000),
    ] {
        let refused = ca.issue_subcloud(&csr, SUBCLOUD, SystemTime::now(), validity);
        assert!(
            matches!(refused, Err(CaError::Validity { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn identity_is_the_one_uri_of_this_trust_domain() {
    let controller = Controller::new(1);
    let own = format!("spiffe://{TD}/controller");
    let check = |uris: &[&str], part: &str| {
        let odd = controller.odd(uris, ExtendedKeyUsagePurpose::ClientAuth);
        let chain = [odd.der];
        let found = authenticate(
            Some(&chain),
            controller.ca.trust_domain(),
            SystemTime::now(),
        );
        let error = found.expect_err("refused").to_string();
        assert!(error.contains(part), "{error}");
    };
    check(&[], "names nobody");
    check(&[&own, &own], "has 2 URIs");
    check(
        &["spiffe://02020202-0202-0202-0202-020202020202/controller"],
        "trust domain",
    );
    check(&["https://example.org/"], "spiffe://");

    let odd = controller.odd(&[&own], ExtendedKeyUsagePurpose::ClientAuth);
    let td = controller.ca.trust_domain();
    let found = authenticate(Some(&[odd.der]), td, SystemTime::now()).expect("valid");
    assert_eq!(found.expect("a certificate").identity, Identity::Controller);
}

#[test]
fn validity_is_checked_whatever_the_handshake_said() {
    let controller = Controller::new(1);
    let now = SystemTime::now();
    let (der, _) = controller.subcloud(now);
    let chain = [der];
    let at = |moment| authenticate(Some(&chain), controller.ca.trust_domain(), moment);

    let found = at(now).expect("valid").expect("a certificate");
    assert_eq!(found.identity, Identity::Subcloud(SUBCLOUD));
    assert!(at(found.not_after).is_ok() && at(found.not_before).is_ok());
    let second = Duration::from_secs(1);
    assert!(matches!(
        at(found.not_after + second),
        Err(CertificateError::Expired { .. })
    ));
    assert!(matches!(
        at(found.not_before - second),
        Err(CertificateError::NotYetValid { .. })
    ));
    assert_eq!(authenticate(None, Uuid::nil(), now), Ok(None));
    assert_eq!(authenticate(Some(&[]), Uuid::nil(), now), Ok(None));
}

#[test]
fn a_ca_file_holds_one_self_signed_authority() {
    let controller = Controller::new(1);
    let (operator, _) = controller.operator();
    let check = |pem: &str, part: &str| {
        let error = CaCertificate::from_pem(pem)
            .expect_err("refused")
            .to_string();
        assert!(error.contains(part), "{error}");
    };
    let pem = controller.ca.certificate_pem();
    check("", "no PEM block");
    check(&pem.repeat(2), "found 2");
    check(&operator, "not marked");

    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    check(
        &params.self_signed(&key).expect("signed").pem(),
        "names nobody",
    );
    let uri = format!("spiffe://{TD}/controller")
        .try_into()
        .expect("ASCII");
    params.subject_alt_names = vec![SanType::URI(uri)];
    check(
        &params.self_signed(&key).expect("signed").pem(),
        "names neither",
    );
}

#[test]
fn an_operator_certificate_names_role_and_person() {
    let controller = Controller::new(1);
    let key = LeafKey::generate().expect("a key");
    for role in Role::ALL {
        let name = "bob-2".parse().expect("a name");
        let issued = controller
            .ca
            .issue_operator(&key, name, role, SystemTime::now(), SUBCLOUD_VALIDITY)
            .expect("a certificate");
        assert_eq!(
            issued.details.identity.to_string(),
            format!("operator/{role}/bob-2")
        );
    }
}
