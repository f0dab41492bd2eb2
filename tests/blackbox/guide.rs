//! The operations guide, line by line: its own commands, without the prompt, in its own order,
//! through a shell with `system` on the path, against a site of its own bootstrap block.
//!
//! Its run-time chapters begin with a site that "was installed as IPv6", so only the first value
//! of each line of the block is taken. Where the guide contradicts itself, a comment says so and
//! the nearest valid line is run.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::cloud::{Controller, Subcloud};
use crate::support::grpcurl::{Target, grpcurl};
use crate::support::process::{Output, Program, run};
use crate::support::{repository, scratch};

const CONTROLLERS: [&str; 2] = ["controller-0", "controller-1"];

#[test]
fn the_guide_leads_to_dual_stack_and_back() {
    let dir = scratch();
    let path = path_with_system(dir.path());
    let controller = Controller::start(&dir.path().join("controller"), guide_site());
    let subcloud = subcloud(dir.path(), &controller);
    let central = Operator::of(&path, &controller.state_dir());
    let remote = Operator::of(&path, &subcloud.state_dir());

    families(&central);
    let single = central.kubernetes();
    oam(&central);
    modify_oam(&central);
    dns(&central);
    cluster(&central);
    management(&central);
    admin(&remote);
    controller.wait_for("subcloud1", "stack", "dual");

    // What is copied from the guide by hand must not do harm either.
    central.harmless_slip();
    revert_cluster(&central);
    assert_eq!(central.kubernetes(), single);
    revert_oam(&central);
    revert_management(&central);
    revert_admin(&remote);
    controller.wait_for("subcloud1", "stack", "single");
    families(&central);
}

/// "The network's primary family can be seen with".
fn families(site: &Operator) {
    let table = site.ok("system network-list").stdout;
    let header = "| id | uuid ";
    assert!(
        table
            .lines()
            .nth(1)
            .is_some_and(|line| line.starts_with(header)),
        "{table}"
    );
    // The columns of the guide's table: id, uuid, name, type, dynamic, pool, family.
    for (network, dynamic, family) in [
        ("multicast", "False", "IPv6"),
        ("cluster-host", "True", "IPv6"),
        ("oam", "False", "IPv6"),
        ("cluster-pod", "False", "IPv6"),
        ("cluster-service", "False", "IPv6"),
        ("mgmt", "True", "IPv6"),
        ("pxeboot", "True", "IPv4"),
    ] {
        let line =
            format!("system network-list | awk '$6 == \"{network}\" {{ print $8, $10, $14 }}'");
        assert_eq!(
            site.ok(&line).stdout,
            format!("{network} {dynamic} {family}\n")
        );
    }
}

/// "Configure OAM Network".
fn oam(site: &Operator) {
    site.ok(
        "system addrpool-add oam-ipv4 171.168.204.0 24 --order random --ranges \
         171.168.204.1-171.168.204.254 --floating-address 171.168.204.1 --controller0-address \
         171.168.204.2 --controller1-address 171.168.204.3",
    );
    let assigned = site.ok("system network-addrpool-assign oam oam-ipv4");
    assigned
        .says("effect: OPEN_PUBLIC_ENDPOINTS")
        .says("171.168.204.1");
    // "otherwise it is necessary to lock/unlock both controllers".
    site.lock_and_unlock_each();
}

/// "Modify Network Addresses", and the deprecated commands for the primary pool.
fn modify_oam(site: &Operator) {
    // The pool of the guide has no gateway, so nothing outside 171.168.204.0/24 could reach it:
    // it is given one with the guide's own form of addrpool-modify, the uuid last.
    let uuid = site.ok("system addrpool-list | awk '$4 == \"oam-ipv4\" { print $2 }'");
    let line = format!(
        "system addrpool-modify --gateway-address 171.168.204.254 {}",
        uuid.stdout.trim()
    );
    site.ok(&line);
    let gateway = site.ok("system addrpool-show oam-ipv4 -f value -c gateway_address");
    assert_eq!(gateway.stdout, "171.168.204.254\n");
    site.lock_and_unlock_each();

    let shown = site.ok("system oam-show");
    assert!(shown.stdout.contains("fd00::3"), "{}", shown.stdout);
    shown.says("deprecated").says("addrpool-show");
    // `<path=value>` is a placeholder.
    let modified = site.ok("system oam-modify oam_gateway_ip=fd00::2");
    modified.says("deprecated").says("addrpool-modify");
    site.lock_and_unlock_each();
}

/// "Configure DNS Server": the addresses are placeholders; both orders are accepted.
fn dns(site: &Operator) {
    for servers in ["fd00::53,171.168.204.53", "171.168.204.53,fd00::53"] {
        site.ok(&format!("system dns-modify nameservers={servers}"));
        let shown = site.ok("system dns-show -f value -c nameservers");
        assert_eq!(shown.stdout, format!("{servers}\n"));
    }
    site.report_each();
}

/// "Configure Cluster (pod/service/host) Network".
fn cluster(site: &Operator) {
    for line in [
        "system addrpool-add cluster-pod-subnet-ipv4 172.16.0.0 16 --order random --ranges \
         172.16.0.1-172.16.254.254",
        "system addrpool-add cluster-service-subnet-ipv4 10.96.0.0 12 --order random --ranges \
         10.96.0.1-10.96.254.254",
        "system addrpool-add cluster-host-subnet-ipv4 192.168.204.0 24 --order random --ranges \
         192.168.204.1-192.168.204.254 --floating-address 192.168.204.1 --controller0-address \
         192.168.204.2 --controller1-address 192.168.204.3",
    ] {
        site.ok(line);
    }
    for line in [
        "system network-addrpool-assign cluster-service cluster-service-subnet-ipv4",
        "system network-addrpool-assign cluster-pod cluster-pod-subnet-ipv4",
    ] {
        site.ok(line)
            .says("effect: KUBERNETES_WAITS")
            .says_not("RESTART");
        assert_eq!(site.kubernetes(), "converting-to-dual");
    }
    let third = site.ok("system network-addrpool-assign cluster-host cluster-host-subnet-ipv4");
    converted(&third);
    assert_eq!(site.kubernetes(), "dual-stack");
    // "without the need of a node lock/unlock cycle".
    site.report_each();
}

/// "After the third cluster network [...] kubernetes and calico will be reconfigured with the
/// kube-apiserver [...] and kube-controller-manager [...] restarts"; no lock.
fn converted(third: &Output) {
    let wanted = [
        "KUBERNETES_NETWORK",
        "KUBERNETES_KUBEADM",
        "KUBERNETES_KUBELET_NODE_ADDRESSES",
        "KUBERNETES_CALICO",
        "KUBERNETES_RESTART_CONTROL_PLANE",
        "NEW_PODS",
        "EXISTING_PODS",
    ];
    let kinds = effects(third);
    let told: Vec<_> = kinds
        .iter()
        .filter(|kind| wanted.contains(&kind.as_str()))
        .collect();
    assert_eq!(told, wanted, "{}", third.stderr);
    assert!(
        !kinds.iter().any(|kind| kind.contains("UNLOCK")),
        "{kinds:?}"
    );
}

/// "Configure Management Network". The guide calls it `management`, its own table `mgmt`: both
/// are the same network.
fn management(site: &Operator) {
    site.ok(
        "system addrpool-add management-ipv4 20.20.20.0 24 --order random --ranges \
         20.20.20.1-20.20.20.254 --floating-address 20.20.20.1 --controller0-address 20.20.20.2 \
         --controller1-address 20.20.20.3",
    );
    let assigned = site.ok("system network-addrpool-assign management management-ipv4");
    assert!(assigned.stdout.contains("| mgmt "), "{}", assigned.stdout);
    site.lock_and_unlock_each();
}

/// "Configure Admin Network": subclouds have it, so this is a subcloud.
fn admin(site: &Operator) {
    site.ok(
        "system addrpool-add admin-ipv4 30.30.30.0 24 --order random --ranges \
         30.30.30.1-30.30.30.254 --floating-address 30.30.30.1 --controller0-address 30.30.30.2 \
         --controller1-address 30.30.30.3",
    );
    // "This is done in runtime on the affected controllers, no lock/unlock cycle is required."
    let assigned = site.ok("system network-addrpool-assign admin admin-ipv4");
    assigned
        .says("effect: CONFIGURE_NETWORK")
        .says_not("LOCK_UNLOCK_REQUIRED");
    site.report_each();
}

/// "Revert to Single-stack": Kubernetes returns with the third network.
fn revert_cluster(site: &Operator) {
    for pool in ["cluster-pod-subnet-ipv4", "cluster-service-subnet-ipv4"] {
        site.remove(pool).says_not("RESTART");
        assert_eq!(site.kubernetes(), "converting-to-single");
    }
    converted(&site.remove("cluster-host-subnet-ipv4"));
    site.report_each();
}

fn revert_oam(site: &Operator) {
    // The DNS server of the family that goes would be out of reach.
    site.line(&removal("oam-ipv4"))
        .expect(1)
        .says("DNS_NEEDS_OAM_FAMILY");
    site.ok("system dns-modify nameservers=fd00::53");
    site.remove("oam-ipv4")
        .says("effect: CLOSE_PUBLIC_ENDPOINTS");
    site.lock_and_unlock_each();
}

fn revert_management(site: &Operator) {
    site.remove("management-ipv4");
    site.lock_and_unlock_each();
}

fn revert_admin(site: &Operator) {
    site.remove("admin-ipv4").says_not("LOCK_UNLOCK_REQUIRED");
    site.report_each();
}

/// The guide's line that removes an association, with two slips corrected: its assignment has a
/// typographic quote, and awk does not see the shell's variable within single quotes.
fn removal(pool: &str) -> String {
    format!(
        "ADDR_POOL_NAME=\"{pool}\"\n\
         DEL=$(system network-addrpool-list | awk -v name=\"$ADDR_POOL_NAME\" \
         '$6 == name {{ print $2 }}') && system network-addrpool-remove $DEL"
    )
}

/// An operator at the shell of a site.
struct Operator {
    path: String,
    socket: PathBuf,
}

impl Operator {
    fn of(path: &str, state_dir: &Path) -> Self {
        Self {
            path: path.to_owned(),
            socket: state_dir.join("operator.sock"),
        }
    }

    /// Runs a line of shell.
    #[track_caller]
    fn line(&self, line: &str) -> Output {
        let mut command = Command::new("env");
        command.arg(format!("PATH={}", self.path));
        command.arg(format!("TANDEM_ENDPOINT=unix:{}", self.socket.display()));
        command.args(["sh", "-c", line]);
        run(command)
    }

    /// Runs a line of shell that must succeed.
    #[track_caller]
    fn ok(&self, line: &str) -> Output {
        self.line(line).expect(0)
    }

    /// Removes a pool from its network with the guide's line.
    #[track_caller]
    fn remove(&self, pool: &str) -> Output {
        self.ok(&removal(pool))
    }

    /// The state of Kubernetes.
    #[track_caller]
    fn kubernetes(&self) -> String {
        self.ok("system kubernetes-show -f value -c state")
            .stdout
            .trim()
            .to_owned()
    }

    /// The guide's line as it is printed names, on a site that was installed as IPv6, the pool
    /// that is never removed, and its awk finds nothing: nothing is removed either way.
    #[track_caller]
    fn harmless_slip(&self) {
        let before = self.call("GetSite", &json!({}));
        let printed = "DEL=$(system network-addrpool-list | awk '$6 == $ADDR_POOL_NAME { print \
                       $2 }') && system network-addrpool-remove $DEL";
        self.line(printed).expect(64);
        let primary = removal("cluster-pod-ipv6");
        self.line(&primary)
            .expect(1)
            .says("POOL_IS_PRIMARY")
            .says("remedy:");
        assert_eq!(self.call("GetSite", &json!({})), before);
    }

    /// "A Configuration Out-Of-Date alarm is raised for the affected nodes and a node
    /// lock/unlock cycle will clean the alarm": on both controllers, one after the other.
    ///
    /// No host runs behind these sites, so the test says in its place what a host says when it
    /// has started again; until then nothing pretends that anything was applied.
    #[track_caller]
    fn lock_and_unlock_each(&self) {
        for (index, hostname) in CONTROLLERS.iter().enumerate() {
            assert_eq!(self.alarms(), entities(&CONTROLLERS[index..]));
            self.ok(&format!("system host-lock {hostname}"));
            let early = self.report(hostname);
            assert!(early.to_string().contains("REPORT_WAITS"), "{early}");
            assert_eq!(self.alarms(), entities(&CONTROLLERS[index..]));
            self.ok(&format!("system host-unlock {hostname}"));
            self.report(hostname);
        }
        assert_eq!(self.alarms(), entities(&[]));
    }

    /// What is applied at run time needs no lock: each host says that it has, and is done.
    #[track_caller]
    fn report_each(&self) {
        for hostname in CONTROLLERS {
            self.report(hostname);
        }
        assert_eq!(self.alarms(), entities(&[]));
    }

    /// A host has applied all that is asked of it; what that does.
    #[track_caller]
    fn report(&self, hostname: &str) -> Value {
        let column = format!("system host-list | awk '$2 == \"{hostname}\" {{ print $8 }}'");
        let target = self.ok(&column).stdout.trim().to_owned();
        let request = json!({"hostname": hostname, "appliedConfiguration": target});
        self.call("ReportHost", &request)["effects"].clone()
    }

    /// The entities of the alarms 250.001, by name.
    #[track_caller]
    fn alarms(&self) -> Vec<String> {
        let table = self
            .ok("system alarm-list | awk '$2 == \"250.001\"'")
            .stdout;
        let words = table.lines().filter_map(|line| {
            line.split_whitespace()
                .find(|word| word.starts_with("host="))
        });
        let mut entities: Vec<String> = words.map(str::to_owned).collect();
        entities.sort();
        entities
    }

    #[track_caller]
    fn call(&self, method: &str, request: &Value) -> Value {
        let method = format!("tandem.site.v1.SiteService/{method}");
        let answer = grpcurl(&Target::Unix(self.socket.clone()), &method, request);
        answer.unwrap_or_else(|error| panic!("{method} {request}: {error:?}"))
    }
}

/// The kinds of the effects that a command told, in their order.
fn effects(output: &Output) -> Vec<String> {
    let lines = output
        .stderr
        .lines()
        .filter_map(|line| line.strip_prefix("effect: "));
    let kinds = lines.filter_map(|line| line.split_once(": "));
    kinds.map(|(kind, _)| kind.to_owned()).collect()
}

fn entities(hosts: &[&str]) -> Vec<String> {
    hosts.iter().map(|host| format!("host={host}")).collect()
}

/// The bootstrap block of the guide, the first value of each line, completed by what it leaves
/// out: name, mode (duplex, for it has addresses of two controllers) and role.
fn guide_site() -> Bootstrap {
    let block = fs::read_to_string(repository("deploy/examples/guide-block.yaml"));
    let block = block.expect("the guide's block");
    let site = Bootstrap::controller(Stack::V6).with("system_mode", "duplex");
    block.lines().fold(site, |site, line| {
        let (variable, values) = line.split_once(": ").expect("a variable");
        let (first, _) = values.split_once(',').unwrap_or((values, ""));
        site.with(variable, first)
    })
}

/// A subcloud on two servers that has joined the controller.
fn subcloud(dir: &Path, controller: &Controller) -> Subcloud {
    let site = Bootstrap::subcloud("subcloud1", 1, Stack::V6).with("system_mode", "duplex");
    Subcloud::join(&dir.join("subcloud1"), site, controller)
}

/// The search path with a folder in front in which `system` is the command line.
fn path_with_system(dir: &Path) -> String {
    let bin = dir.join("bin");
    fs::create_dir(&bin).expect("a folder of commands");
    symlink(Program::Tandem.path(), bin.join("system")).expect("a command `system`");
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{}:{path}", bin.display())
}
