//! Two sites that share their subclouds, in namespaces with real addresses: a path between the
//! sites is lost, a whole site is lost, it returns, and operators move the subclouds back.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::matrix::Network;
use crate::peers::{done, wait_for_sync};
use crate::support::bootstrap::{Bootstrap, Family, Stack};
use crate::support::cloud::{Controller, Place, Subcloud};
use crate::support::lab::Lab;
use crate::support::process::Output;
use crate::support::{PATIENCE, pause, scale, scratch, wait_until};

/// The shortest failover time that may be set.
const FAILOVER: Duration = Duration::from_secs(5);

/// Longest time from a cut to the last subcloud at the other site: the failover time, an attempt
/// at the lost owner that runs into its time limit (10 s), and room for a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Two sites that are peers, and the subclouds of one group, which the first owns.
struct Cloud {
    network: Network,
    a: Controller,
    b: Controller,
    subclouds: Vec<Subcloud>,
}

#[test]
fn a_lost_site_is_taken_over_and_nobody_fights_when_it_returns() {
    let dir = scratch();
    let mut cloud = Cloud::start(dir.path(), 20 * u16::try_from(scale()).expect("small"));
    let count = cloud.subclouds.len();

    cloud.a_path_between_the_sites_is_lost();

    let cut = Instant::now();
    cloud.network.0.cut("a");
    cloud.wait_for_owner("b", count, 2);
    println!(
        "{count} subclouds: {:.1} s from the cut to the last one online at the other site, \
         failover time {} s",
        cut.elapsed().as_secs_f64(),
        FAILOVER.as_secs()
    );
    assert!(cut.elapsed() < LIMIT, "{:?}", cut.elapsed());
    // The lost site leads nothing any more.
    assert_eq!(alarms(&cloud.b, "280.004"), ["major", "system_peer=a"]);
    cloud.network.0.restore("a");

    cloud.the_lost_site_returns(count);
    let backup = cloud.back_up_b(dir.path());
    cloud.everybody_moves_back(count);
    cloud.b_returns_from(&backup, count);
    for subcloud in &mut cloud.subclouds {
        assert!(subcloud.daemon().is_running(), "{}", subcloud.name());
    }
}

impl Cloud {
    /// Everything by operators' commands.
    fn start(dir: &Path, count: u16) -> Self {
        let network = Network(Rc::new(Lab::up(&dir.join("lab"))));
        let start = |name: &str, index: u8| {
            let site = Bootstrap::controller_of(name, index, Stack::V4);
            let place = network.give_both_families(&site);
            let mut site = Controller::install(&dir.join(name), site, place);
            site.set(&format!(
                "failover_milliseconds = {}\n",
                FAILOVER.as_millis()
            ));
            site.serve();
            site
        };
        let (a, b) = (start("a", 101), start("b", 102));
        let quick = [
            "--heartbeat-interval",
            "1",
            "--heartbeat-failure-threshold",
            "2",
        ];
        let rehome = ["--heartbeat-failure-policy", "rehome", "-f", "json"];
        let add = |site: &Controller, name: &str, more: &[&str]| -> Output {
            let add = ["dcmanager", "system-peer", "add", name];
            site.tandem(&[&add, &quick[..], &rehome, more].concat())
                .expect(0)
        };
        let issued = add(&a, "b", &[]).json();
        let token = issued["token"].as_str().expect("a token");
        let joined = add(&b, "a", &["--token", token]).json();
        assert_eq!(joined["peering"], "established", "{joined}");

        let subclouds = join(&network, dir, &a, count);
        let group = |arguments: &[&str]| {
            let area = ["dcmanager", "subcloud-peer-group"];
            a.tandem(&[&area, arguments].concat()).expect(0);
        };
        group(&["add", "shared", "--group-priority", "0"]);
        let names: Vec<&str> = subclouds.iter().map(Subcloud::name).collect();
        group(&[&["add-subclouds", "shared"], names.as_slice()].concat());
        let share = ["dcmanager", "peer-group-association", "add", "shared", "b"];
        a.tandem(&[&share[..], &["--peer-group-priority", "1"]].concat())
            .expect(0);
        wait_for_sync(&a, "shared", "b");
        wait_for_sync(&b, "shared", "a");
        let cloud = Self {
            network,
            a,
            b,
            subclouds,
        };
        cloud.wait_for_owner("a", usize::from(count), 1);
        cloud
    }

    /// The members of the group, as a site sees them.
    fn members(&self, site: &str) -> Vec<Value> {
        let site = if site == "a" { &self.a } else { &self.b };
        let all = json!({"subcloudPeerGroup": "shared", "pageSize": 1000});
        let answer = done(site, "ListSubcloudPeerGroupMembers", &all);
        answer["members"].as_array().expect("a list").clone()
    }

    /// Waits until a site owns everybody, online, in this term, and the subclouds have said so.
    fn wait_for_owner(&self, site: &str, count: usize, epoch: u64) {
        let (mut last, mut before) = (Vec::new(), 0);
        let since = Instant::now();
        let what = format!("all are online at {site} in term {epoch}");
        wait_until(&what, LIMIT, || {
            last = self.members(site);
            let here = last.iter().filter(|member| {
                member["ownedHere"] == true
                    && member["confirmed"] == true
                    && member["availability"] == "AVAILABILITY_ONLINE"
            });
            let here = here.count();
            if here != before {
                println!(
                    "  {:6.1} s  {here} at {site}",
                    since.elapsed().as_secs_f64()
                );
                before = here;
            }
            here == count
        });
        let wanted = Value::from(epoch.to_string());
        let terms: Vec<&Value> = last.iter().map(|member| &member["epoch"]).collect();
        assert!(terms.iter().all(|term| **term == wanted), "{terms:?}");
    }

    /// Both sites say that they have lost each other; the agents reach their owner, so they stay.
    fn a_path_between_the_sites_is_lost(&self) {
        let other = self.b.site.link_address(Family::V4).to_string();
        let drop = [
            "add", "rule", "inet", "link", "cut", "ip", "saddr", &other, "drop",
        ];
        self.network.nft("a", &drop, "");
        for site in [&self.a, &self.b] {
            wait_until("the loss is told", PATIENCE, || {
                !alarms(site, "280.004").is_empty()
            });
        }
        // Worse for the one whose peer leads the group.
        assert_eq!(alarms(&self.a, "280.004"), ["major", "system_peer=b"]);
        assert_eq!(alarms(&self.b, "280.004"), ["critical", "system_peer=a"]);
        // Longer than any agent would wait for a lost owner.
        pause(FAILOVER + Duration::from_secs(2));
        self.wait_for_owner("a", self.subclouds.len(), 1);
        let moved = self.members("b");
        assert!(moved.iter().all(|member| member["ownedHere"] == false));
        self.network
            .nft("a", &["flush", "chain", "inet", "link", "cut"], "");
        for site in [&self.a, &self.b] {
            wait_until("the peers are back", PATIENCE, || {
                alarms(site, "280.004").is_empty()
            });
        }
    }

    /// The lost site comes back: it shows everybody as secondary, deletes nothing, takes nothing,
    /// and says who leads.
    fn the_lost_site_returns(&self, count: usize) {
        wait_until("the returned site knows", PATIENCE, || {
            let members = self.members("a");
            let secondary = members.iter().filter(|member| {
                member["availability"] == "AVAILABILITY_SECONDARY" && member["owner"] == "b"
            });
            secondary.count() == count
        });
        wait_until("280.005 is raised", PATIENCE, || {
            alarms(&self.a, "280.005") == ["major", "subcloud_peer_group=shared"]
        });
        assert_eq!(alarms(&self.b, "280.005"), [""; 0]);
        wait_until("the peers are back", PATIENCE, || {
            alarms(&self.b, "280.004").is_empty()
        });
        pause(FAILOVER);
        self.wait_for_owner("b", count, 2);
        for site in [&self.a, &self.b] {
            let listed = site.tandem(&["dcmanager", "subcloud", "list", "-f", "json"]);
            let listed = listed.expect(0).json();
            assert_eq!(listed.as_array().map(Vec::len), Some(count));
        }
    }

    /// Copies the state of site B, which is down for that moment. Site A cannot be reached
    /// meanwhile, or agents would turn to it: the failover time is short.
    fn back_up_b(&mut self, dir: &Path) -> PathBuf {
        let backup = dir.join("backup");
        self.network.0.cut("a");
        self.b.kill();
        copy(&self.b.state_dir(), &backup);
        self.b.serve();
        self.wait_for_owner("b", self.subclouds.len(), 2);
        self.network.0.restore("a");
        for (site, other) in [(&self.a, "b"), (&self.b, "a")] {
            wait_for_sync(site, "shared", other);
            wait_until("the peers are back", PATIENCE, || {
                alarms(site, "280.004").is_empty()
            });
        }
        backup
    }

    /// Site B is restored from a backup of the time when it owned everybody: its claims are of a
    /// term that is over, so that nobody moves, and it learns who owns what.
    fn b_returns_from(&mut self, backup: &Path, count: usize) {
        self.b.kill();
        let state = self.b.state_dir();
        fs::remove_dir_all(&state).expect("the state goes");
        copy(backup, &state);
        self.b.serve();
        wait_until("the restored site knows", PATIENCE, || {
            let members = self.members("b");
            let secondary = members.iter().filter(|member| {
                member["availability"] == "AVAILABILITY_SECONDARY" && member["owner"] == "a"
            });
            secondary.count() == count
        });
        let events = [
            "dcmanager",
            "event",
            "list",
            "--kind",
            "DEMOTED",
            "-f",
            "json",
        ];
        let events = self.b.tandem(&events).expect(0).json();
        // The backup is older than the moment when everybody moved back, so these are new.
        assert_eq!(events.as_array().map(Vec::len), Some(count), "{events}");
        self.wait_for_owner("a", count, 3);
        wait_for_sync(&self.a, "shared", "b");
        wait_for_sync(&self.b, "shared", "a");
    }

    /// An operator takes the group back at the site that it was lost from.
    fn everybody_moves_back(&self, count: usize) {
        let migrate = ["dcmanager", "subcloud-peer-group", "migrate", "shared"];
        let preview = self.a.tandem(&[&migrate[..], &["--dry-run"]].concat());
        preview
            .expect(0)
            .says(&format!("{count} members would move here"));
        let moved = self
            .a
            .tandem(&[&migrate[..], &["--wait", "-f", "json"]].concat());
        let moved = moved.expect(0).says(&format!("{count} of {count} arrived"));
        assert_eq!(moved.json()["migration"], "complete", "{moved:?}");
        assert_eq!(moved.json()["leader"], "a", "{moved:?}");
        self.wait_for_owner("a", count, 3);
        wait_until("280.005 is cleared", PATIENCE, || {
            alarms(&self.a, "280.005").is_empty()
        });
    }
}

/// Subclouds that have enrolled at a controller and serve, in one namespace with all their
/// addresses.
fn join(network: &Network, dir: &Path, controller: &Controller, count: u16) -> Vec<Subcloud> {
    let sites: Vec<Bootstrap> = (0..count).map(Bootstrap::one_of_many).collect();
    let address = |number: u16| {
        let [high, low] = number.to_be_bytes();
        format!("10.{high}.{low}.2/24")
    };
    let addresses: Vec<String> = (0..count).map(address).collect();
    network.0.site("field", &addresses);
    let mut subclouds = Vec::new();
    for site in sites {
        let added = controller.add(&site.name);
        let place = Place::Lab(Rc::clone(&network.0), "field".to_owned());
        let subcloud = Subcloud::install(&dir.join(&site.name), site, place);
        let enrolling = subcloud.start_enroll(&added, &[]);
        subclouds.push((subcloud, enrolling));
    }
    let serve = |(mut subcloud, enrolling): (Subcloud, crate::support::process::Running)| {
        enrolling.output().expect(0);
        subcloud.serve();
        subcloud
    };
    subclouds.into_iter().map(serve).collect()
}

/// Copies a folder of files.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a folder");
    let mode = fs::metadata(from).expect("a folder").permissions();
    fs::set_permissions(to, mode).expect("its mode");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("a type").is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
    }
}

/// Severity and entity of the alarms of a number at a site, one after the other.
fn alarms(site: &Controller, id: &str) -> Vec<String> {
    let listed = site
        .tandem(&["system", "alarm-list", "-f", "json"])
        .expect(0)
        .json();
    let all = listed.as_array().expect("a list").iter();
    let meant = all.filter(|alarm| alarm["alarm_id"] == id);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    meant
        .flat_map(|alarm| [text(&alarm["severity"]), text(&alarm["entity"])])
        .collect()
}
