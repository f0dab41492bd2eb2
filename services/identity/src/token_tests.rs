//! Tests of enrollment tokens.

use proptest::prelude::*;

use super::*;

fn token() -> EnrollmentToken {
    let addresses = ["192.0.2.2:8441", "[2001:db8::2]:8441"];
    EnrollmentToken::with_secret(
        Uuid::from_bytes([7; 16]),
        Secret([9; 32]),
        SpkiSha256::from_bytes([3; 32]),
        addresses
            .iter()
            .map(|text| text.parse().expect("an address"))
            .collect(),
    )
    .expect("valid addresses")
}

/// A token around arbitrary content, with a right checksum.
fn sealed(content: &[u8]) -> String {
    let bytes = [content, &checksum(PREFIX, content)].concat();
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// Replaces the character at `position` (from 0) of an ASCII text.
fn replaced(text: &str, position: usize, by: char) -> String {
    let keep = |(at, c)| if at == position { by } else { c };
    text.chars().enumerate().map(keep).collect()
}

fn check(text: &str, expected: &TokenError) {
    let error = EnrollmentToken::parse(text).expect_err("not a token");
    assert_eq!(&error, expected);
}

#[test]
fn faults_are_told_apart() {
    let good = token().reveal();
    let expected = good.len();
    check("", &TokenError::Prefix);
    check("ghp_abc", &TokenError::Prefix);
    check(&good[1..], &TokenError::Prefix);
    check(
        &good.replace("td1_", "td2_"),
        &TokenError::UnsupportedVersion {
            version: "td2".into(),
        },
    );
    check(
        &replaced(&good, 19, '+'),
        &TokenError::BadCharacter {
            position: 20,
            found: '+',
        },
    );
    check(
        &format!("{good} {good}"),
        &TokenError::BadCharacter {
            position: expected + 1,
            found: ' ',
        },
    );
    check(
        &good[..expected - 1],
        &TokenError::TooShort {
            expected,
            found: expected - 1,
        },
    );
    check(
        &format!("{good}A"),
        &TokenError::TooLong {
            expected,
            found: expected + 1,
        },
    );
    let other = if good.as_bytes()[30] == b'A' {
        'B'
    } else {
        'A'
    };
    check(&replaced(&good, 30, other), &TokenError::Checksum);
    // Cut off before the addresses, only the shortest possible length is known.
    check(
        "td1_AAAA",
        &TokenError::TooShort {
            expected: 127,
            found: 8,
        },
    );
}

/// The mistakes of a hand, at every place of a token: the prefix, each field, the checksum.
#[test]
fn every_slip_at_every_place_is_noticed() {
    let good = token().reveal();
    for at in 0..good.len() {
        let (head, tail) = good.split_at(at);
        let (typed, rest) = tail.split_at(1);
        let key = typed.as_bytes()[0];
        let near = if key.is_ascii_digit() {
            key ^ 1
        } else {
            key ^ 0x20
        };
        let mut slips = vec![
            format!("{head}{rest}"),
            format!("{head}{typed}{typed}{rest}"),
            format!("{head}{}{rest}", char::from(near)),
            format!("{head} {rest}"),
        ];
        if let Some((next, rest)) = rest.split_at_checked(1) {
            slips.push(format!("{head}{next}{typed}{rest}"));
        }
        for slip in slips.iter().filter(|slip| slip.trim() != good) {
            EnrollmentToken::parse(slip).expect_err(slip);
        }
    }
}

#[test]
fn a_right_checksum_does_not_excuse_nonsense() {
    let mut content = vec![0; HEAD_BYTES - 1];
    content.extend([1, 5, 0, 0]);
    check(&sealed(&content), &TokenError::Malformed);
    check(&sealed(&[]), &TokenError::Malformed);
    content.truncate(HEAD_BYTES - 1);
    content.push(0);
    check(&sealed(&content), &TokenError::Malformed);
    content.pop();
    content.extend([1, 4, 192, 0, 2, 1, 32, 249]);
    EnrollmentToken::parse(&sealed(&content)).expect("this one makes sense");
    content.push(0);
    check(&sealed(&content), &TokenError::Malformed);
}

#[test]
fn only_addresses_that_an_agent_can_dial_are_issued() {
    let issue = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|text| text.parse().expect("address"));
        let rng = ring::rand::SystemRandom::new();
        let ca = SpkiSha256::from_bytes([0; 32]);
        EnrollmentToken::issue(Uuid::nil(), ca, addresses.collect(), &rng)
    };
    assert_eq!(issue(&[]), Err(TokenIssueError::Count { found: 0 }));
    assert_eq!(
        issue(&["192.0.2.1:1"; 5]),
        Err(TokenIssueError::Count { found: 5 })
    );
    for address in [
        "192.0.2.1:0",
        "0.0.0.0:8441",
        "[::]:8441",
        "[::ffff:192.0.2.1]:8441",
        "[fe80::1%2]:8441",
        "[ff02::1]:8441",
    ] {
        let expected = TokenIssueError::Address {
            address: address.parse().expect("an address"),
        };
        assert_eq!(issue(&["192.0.2.1:8441", address]), Err(expected));
    }
    let (one, two) = (issue(&["192.0.2.1:1"]), issue(&["192.0.2.1:1"]));
    assert_ne!(
        one.expect("valid").secret(),
        two.expect("valid").secret(),
        "each token has a secret of its own"
    );
}

#[test]
fn secrets_are_verified_and_never_shown() {
    let secret = Secret([9; 32]);
    assert!(secret.hash().verify(&Secret([9; 32])));
    let mut other = [9; 32];
    other[31] ^= 1;
    assert!(!secret.hash().verify(&Secret(other)));
    let plain = sha256(&[&[9; 32]]);
    assert_ne!(secret.hash().as_bytes(), &plain, "the hash has its domain");

    let shown = format!("{:?} {:?} {:?}", token(), secret, secret.hash());
    assert_eq!(shown.matches("redacted").count(), 3, "{shown}");
    assert!(!shown.contains("9, 9"), "{shown}");
}

prop_compose! {
    fn addresses()(
        addresses in prop::collection::vec(
            (any::<IpAddr>(), 1_u16..).prop_map(|(ip, port)| SocketAddr::new(ip, port))
                .prop_filter("dialable", |address| dialable(*address)),
            1..=EnrollmentToken::MAX_ADDRESSES,
        )
    ) -> Vec<SocketAddr> {
        addresses
    }
}

prop_compose! {
    fn tokens()(
        id in any::<[u8; 16]>(),
        secret in any::<[u8; 32]>(),
        ca in any::<[u8; 32]>(),
        controller in addresses(),
    ) -> EnrollmentToken {
        let ca = SpkiSha256::from_bytes(ca);
        EnrollmentToken::with_secret(Uuid::from_bytes(id), Secret(secret), ca, controller)
            .expect("dialable addresses")
    }
}

proptest! {
    #[test]
    fn a_token_survives_its_text(token in tokens(), before in "[ \t\n]{0,2}", after in "\\s{0,2}") {
        let text = token.reveal();
        prop_assert_eq!(EnrollmentToken::parse(&format!("{before}{text}{after}")), Ok(token));
    }

    #[test]
    fn any_change_of_one_character_is_detected(
        token in tokens(),
        position in any::<prop::sample::Index>(),
        by in prop_oneof!["[A-Za-z0-9_-]", any::<char>().prop_map(String::from)],
    ) {
        let text = token.reveal();
        let by = by.chars().next().expect("one character");
        let changed = replaced(&text, position.index(text.len()), by);
        prop_assume!(changed != text);
        prop_assert!(EnrollmentToken::parse(&changed).is_err());
    }

    #[test]
    fn a_missing_end_is_always_told_as_such(token in tokens(), cut in 1_usize..80) {
        let text = token.reveal();
        let error = EnrollmentToken::parse(&text[..text.len() - cut]).expect_err("cut off");
        prop_assert!(matches!(error, TokenError::TooShort { .. }), "{error:?}");
    }

    #[test]
    fn no_text_panics(text in "(td[0-9]_)?[A-Za-z0-9_-]{0,160}") {
        prop_assert!(EnrollmentToken::parse(&text).is_err());
    }
}

#[test]
fn tokens_for_peers_and_for_subclouds_are_told_apart() {
    let issued = PeeringToken(token());
    let text = issued.reveal();
    assert_eq!(PeeringToken::parse(&format!(" {text}\n")), Ok(issued));
    check(&text, &TokenError::Prefix);
    let of_a_subcloud = PeeringToken::parse(&token().reveal());
    assert_eq!(of_a_subcloud, Err(TokenError::PeeringPrefix));
    // The checksum covers the kind: one cannot be made of the other.
    let relabelled = text.replace("tp1_", "td1_");
    check(&relabelled, &TokenError::Checksum);
    let newer = PeeringToken::parse(&text.replace("tp1_", "tp2_"));
    let version = "tp2".to_owned();
    assert_eq!(newer, Err(TokenError::UnsupportedVersion { version }));
}
