//! To which subclouds commands may go out, and what is said about the others.

use std::sync::Arc;

use crate::common::{add, answer, at, controller, enroll, key, reasons, recovered, settle, site};
use fleet::{
    AgentMessage, Controller, Hello, Input, LinkId, Management, Records, Report, SubcloudId,
};
use site::{Digest, Site};
use uuid::Uuid;

fn id() -> SubcloudId {
    SubcloudId(Uuid::from_u128(1))
}

/// A controller that has site 1 as `s` with this management state.
fn enrolled(management: Management) -> (Controller, Site) {
    let site = site("s", 1, "4");
    let mut machine = controller("4");
    answer(settle(&mut machine, at(0), Input::AddSubcloud(add(1, "s")))).unwrap();
    answer(settle(&mut machine, at(0), Input::Enroll(enroll(1, &site)))).unwrap();
    let mut record = (**machine.fleet().subcloud(id()).unwrap()).clone();
    record.management = management;
    let records = Records {
        subclouds: vec![record.into()],
        ..Records::default()
    };
    (recovered("4", records, 100), site)
}

fn say(machine: &mut Controller, message: AgentMessage) {
    let link = LinkId(1);
    settle(machine, at(1), Input::LinkMessage { link, message });
}

/// The agent comes and says Hello.
fn come(machine: &mut Controller, site: &Site) {
    let opened = Input::LinkOpened {
        link: LinkId(1),
        subcloud: id(),
        key: key(1),
        signed: None,
        source: [10, 1, 0, 2].into(),
    };
    settle(machine, at(1), opened);
    let hello = Hello {
        connection: 1,
        ..crate::common::hello(site)
    };
    say(machine, AgentMessage::Hello(hello));
}

/// The agent reports something that another site is.
fn violate(machine: &mut Controller) {
    let report = Report {
        digest: Digest([9; 32]),
        site: Arc::new(crate::common::site("s", 3, "6").to_parts()),
    };
    say(machine, AgentMessage::Report(report));
}

#[test]
fn a_managed_subcloud_with_a_live_link_takes_commands() {
    let (mut machine, site) = enrolled(Management::Managed);
    come(&mut machine, &site);
    for reference in ["s".to_owned(), id().to_string()] {
        let reach = machine.commandable(&reference).expect("it can be reached");
        assert_eq!((reach.subcloud.id, reach.link), (id(), LinkId(1)));
    }
}

#[test]
fn every_hindrance_is_named_at_once() {
    let check = |machine: &Controller, expected: &[&str]| {
        let refused = machine.commandable("s");
        assert_eq!(reasons(&refused), expected);
        for violation in refused.unwrap_err().violations() {
            assert!(!violation.remedy.is_empty(), "{violation:?}");
            let names = violation.objects.iter().map(|object| object.name.as_str());
            assert_eq!(names.collect::<Vec<_>>(), ["s"], "{violation:?}");
        }
    };
    check(&controller("4"), &["SUBCLOUD_NOT_FOUND"]);

    let mut machine = controller("4");
    answer(settle(&mut machine, at(0), Input::AddSubcloud(add(1, "s")))).unwrap();
    check(&machine, &["SUBCLOUD_NOT_ENROLLED"]);

    let (mut machine, site) = enrolled(Management::Managed);
    check(&machine, &["SUBCLOUD_OFFLINE"]);
    come(&mut machine, &site);
    violate(&mut machine);
    check(&machine, &["SUBCLOUD_QUARANTINED"]);
    assert_eq!(machine.links(), 1, "the stream stays");

    let (mut machine, site) = enrolled(Management::Unmanaged);
    check(&machine, &["SUBCLOUD_UNMANAGED", "SUBCLOUD_OFFLINE"]);
    come(&mut machine, &site);
    check(&machine, &["SUBCLOUD_UNMANAGED"]);
    violate(&mut machine);
    settle(&mut machine, at(2), Input::LinkClosed { link: LinkId(1) });
    let all = [
        "SUBCLOUD_QUARANTINED",
        "SUBCLOUD_UNMANAGED",
        "SUBCLOUD_OFFLINE",
    ];
    check(&machine, &all);
}
