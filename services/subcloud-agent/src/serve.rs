//! `subcloud-agent serve`.

use std::sync::Arc;

use daemon::{Desk, Exit, Failure, Life, OperatorListeners, SiteKeeper};

use crate::settings::{ServeOptions, Settings, source};
use crate::{link, records};
use site::DistributedCloudRole;

/// Serves until SIGTERM.
pub(crate) fn run(options: ServeOptions) -> Result<(), Failure> {
    // One thread: an agent has one link and few operators, and threads cost memory.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime
        .map_err(|error| Failure::because(Exit::Software, "cannot start the runtime", &error))?;
    runtime.block_on(async {
        let logs = options.logs.start("subcloud-agent")?;
        let served = serve(options).await;
        logs.end().await;
        served
    })
}

async fn serve(options: ServeOptions) -> Result<(), Failure> {
    let store = Arc::new(daemon::open_store(&options.state_dir)?);
    let (site, revision) = daemon::read_site_of(&store, DistributedCloudRole::Subcloud)?;
    let settings = Settings::new(options)?;
    let enrolled = records::read_enrolled(&store)?;
    if !settings.operator_listen.is_empty() {
        // A subcloud's certificate is for clients only: one for servers would let any subcloud
        // answer in the controller's place to tools that check no more than the authority.
        let message = "--operator-listen: an agent serves operators on its unix socket only; \
                       leave the flag out";
        return Err(Failure::new(Exit::Usage, message));
    }
    let life = Life::start()?;
    let operators = OperatorListeners::bind(&settings.operator_socket, &[]).await?;
    let endpoints = operators.endpoints().join(",");
    let from = source(settings.link_source, site.link_address());
    let keeper = Arc::new(SiteKeeper::new(Arc::clone(&store), site, revision)?);
    operators
        .serve(&life, &keeper, &Desk::default(), &[], |_| {})
        .await?;
    let link = match enrolled {
        Some(enrolled) => {
            let to = enrolled.record.controllers.first().map(ToString::to_string);
            let leave = link::Leave {
                from,
                fixed: settings.link_source.is_some(),
            };
            link::start(
                &life,
                Arc::clone(&store),
                Arc::clone(&keeper),
                enrolled,
                leave,
            )?;
            to.unwrap_or_default()
        }
        None => {
            tracing::warn!(
                "this site has not enrolled; `subcloud-agent enroll` makes it a subcloud"
            );
            String::new()
        }
    };
    daemon::ready(&format!("ready operator={endpoints} link={link}"));
    life.until_stopped().await;
    Ok(())
}
