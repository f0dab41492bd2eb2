//! `https://`: who is who.

use std::fs;
use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use identity::{
    Acceptor, CONTROLLER_VALIDITY, Ca, ClientCertificates, LeafKey, Limits, OPERATOR_VALIDITY,
    Role, ServingCertificate, server_config,
};
use tandem_cli::Exit;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::daemon::{Asked, routes};
use crate::run::{Outcome, run_words};

/// A controller on `[::1]`, and the files of its operator in a folder.
struct Controller {
    port: u16,
    folder: tempfile::TempDir,
    cancel: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Controller {
    fn start() -> Self {
        let now = SystemTime::now();
        let trust_domain = Uuid::from_u128(7);
        let ca = Ca::generate(trust_domain, now).expect("a CA");
        let folder = tempfile::tempdir().expect("a folder");
        write_files(&ca, folder.path(), now);

        let key = LeafKey::generate().expect("a key");
        let certificate = ca
            .issue_controller(&key, &[], now, CONTROLLER_VALIDITY)
            .expect("a certificate");
        let serving =
            ServingCertificate::new(ca.certificate(), &certificate, &key).expect("they match");
        let clients = ClientCertificates::Required;
        let config = server_config(&ca, serving, clients).expect("a configuration");
        let cancel = CancellationToken::new();
        let (stop, (ready, is_ready)) = (cancel.clone(), mpsc::channel());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0))
                    .await
                    .expect("a port");
                let port = listener.local_addr().expect("an address").port();
                ready.send(port).expect("the test waits");
                let acceptor =
                    Acceptor::new(listener, config, trust_domain, Limits::default(), stop);
                tonic::transport::Server::builder()
                    .add_routes(routes(&Asked::default(), &CancellationToken::new()))
                    .serve_with_incoming(acceptor.into_stream())
                    .await
                    .expect("it serves until it is cancelled");
            });
        });
        let port = is_ready.recv().expect("the controller starts");
        Self {
            port,
            folder,
            cancel,
            thread: Some(thread),
        }
    }

    /// Lists the networks with these of `ca.crt`, `op.crt` and `op.key`.
    fn list(&self, variables: &[(&str, &str)]) -> Outcome {
        let endpoint = format!("https://[::1]:{}", self.port);
        let path = |file: &str| self.folder.path().join(file).display().to_string();
        let files: Vec<_> = variables
            .iter()
            .map(|(name, file)| (*name, path(file)))
            .collect();
        let mut variables: Vec<_> = files
            .iter()
            .map(|(name, path)| (*name, path.as_str()))
            .collect();
        variables.push(("TANDEM_ENDPOINT", &endpoint));
        run_words(
            &variables,
            &[
                "tandem",
                "system",
                "network-list",
                "-f",
                "value",
                "-c",
                "name",
            ],
        )
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The CA, an operator of it, and another CA with an operator of its own.
fn write_files(ca: &Ca, folder: &Path, now: SystemTime) {
    let other = Ca::generate(Uuid::from_u128(8), now).expect("another CA");
    for (ca, authority, operator) in [(ca, "ca.crt", "op"), (&other, "other.crt", "stranger")] {
        let key = LeafKey::generate().expect("a key");
        let name = "alice".parse().expect("a name");
        let certificate = ca
            .issue_operator(&key, name, Role::Reader, now, OPERATOR_VALIDITY)
            .expect("issued");
        for (file, text) in [
            (authority.to_owned(), ca.certificate_pem()),
            (format!("{operator}.crt"), certificate.to_pem()),
            (format!("{operator}.key"), key.to_pkcs8_pem()),
        ] {
            fs::write(folder.join(file), text).expect("written");
        }
    }
}

#[test]
fn operators_show_a_certificate_and_verify_the_controllers() {
    let controller = Controller::start();
    let (ca, cert, key) = (
        ("TANDEM_CA", "ca.crt"),
        ("TANDEM_CERT", "op.crt"),
        ("TANDEM_KEY", "op.key"),
    );

    let outcome = controller.list(&[ca, cert, key]);
    assert_eq!(outcome.exit, Exit::Success, "{}", outcome.stderr);
    assert_eq!(outcome.stdout, "mgmt\noam\ncluster-pod\n");

    for (variables, exit, said) in [
        (
            vec![
                ca,
                ("TANDEM_CERT", "stranger.crt"),
                ("TANDEM_KEY", "stranger.key"),
            ],
            Exit::Unavailable,
            "refused the operator's certificate",
        ),
        (
            vec![("TANDEM_CA", "other.crt"), cert, key],
            Exit::Unavailable,
            "expected CA",
        ),
        (
            vec![ca, cert],
            Exit::Usage,
            "needs an operator's certificate and its key",
        ),
        (
            vec![("TANDEM_CA", "missing.crt"), cert, key],
            Exit::NoInput,
            "missing.crt",
        ),
        (
            vec![("TANDEM_CA", "op.key"), cert, key],
            Exit::BadInput,
            "--ca, --cert and --key",
        ),
        (vec![], Exit::Usage, "needs the controller's CA"),
    ] {
        let outcome = controller.list(&variables);
        assert_eq!(outcome.exit, exit, "{variables:?}: {}", outcome.stderr);
        assert!(
            outcome.stderr.contains(said),
            "{variables:?}: {}",
            outcome.stderr
        );
    }
}
