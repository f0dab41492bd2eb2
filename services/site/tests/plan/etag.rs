//! A change made for a version of a pool meets the pool that the change itself is about, however
//! that is referred to.

use site::{Change, PoolEdit, ReasonSet as _, Site, check_etag};

use crate::commands::run;
use crate::fixture::Fixture;

/// Asks with a stale etag and with the present one of `meant`, under this reference.
fn check(site: &Site, reference: &str, meant: &str) {
    let pool = site.find_pool(meant).expect("a pool of the site");
    for change in [
        Change::ModifyPool {
            pool: reference.to_owned(),
            edit: PoolEdit::default(),
        },
        Change::DeletePool {
            pool: reference.to_owned(),
        },
    ] {
        let reason = |etag: &str| match check_etag(site, &change, etag) {
            Ok(()) => "ok",
            Err(rejection) => rejection.first().reason.name(),
        };
        assert_eq!(reason("stale"), "ETAG_MISMATCH", "{reference}");
        assert_eq!(reason(&pool.etag()), "ok", "{reference}");
        assert_eq!(reason(""), "ok", "{reference}");
    }
}

#[test]
fn a_stale_etag_is_refused_however_the_pool_is_written() {
    let site = Fixture::default().site();
    let id = site.find_pool("oam-ipv4").expect("a pool").id().0;
    for reference in [
        "oam-ipv4".to_owned(),
        id.to_string(),
        id.to_string().to_uppercase(),
        id.simple().to_string(),
        id.braced().to_string(),
        id.urn().to_string(),
    ] {
        check(&site, &reference, "oam-ipv4");
    }
}

/// No pool gets such a name any more, but one of before may have it.
#[test]
fn a_pool_that_is_named_like_the_uuid_of_another_one_is_not_meant() {
    let mut site = Fixture::default().site();
    let id = site.find_pool("oam-ipv4").expect("a pool").id().0;
    for name in [id.to_string(), id.simple().to_string()] {
        run(&mut site, &["pool-add p 10.77.0.0/24"])
            .expect("a pool")
            .apply(&mut site);
        let mut parts = site.to_parts();
        let pool = parts.pools.iter_mut().find(|pool| pool.name == "p");
        pool.expect("it is there").name.clone_from(&name);
        site = Site::from_parts(parts).expect("a name of before");
        check(&site, &name, "oam-ipv4");
    }
}
