//! `system kubernetes-show`.

use api::site_v1::{GetKubernetesRequest, GetKubernetesResponse, KubernetesState};
use clap::Subcommand;

use crate::answer::Answer;
use crate::failure::Failure;
use crate::output::{Body, Cell, Column};
use crate::program::Shape;
use crate::session::{Session, call};
use crate::wording;

/// The stack of Kubernetes.
#[derive(Debug, Subcommand)]
pub(crate) enum KubernetesCommand {
    /// Show the stack of Kubernetes, and why it is not dual-stack yet
    #[command(
        name = "kubernetes-show",
        after_help = "Example:\n  tandem system kubernetes-show"
    )]
    Show,
}

const COLUMNS: [Column; 3] = [
    Column::new("state"),
    Column::new("missing_networks"),
    Column::new("explanation"),
];

impl KubernetesCommand {
    /// What is known of the command before it runs.
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::Show => Shape::reads(&COLUMNS),
        }
    }

    /// Sends the command and reads the answer.
    pub(crate) async fn run(self, session: &Session) -> Result<Answer, Failure> {
        match self {
            Self::Show => {
                let answer = call(session.site().get_kubernetes(GetKubernetesRequest {})).await?;
                let GetKubernetesResponse {
                    state,
                    networks_missing_for_dual_stack,
                } = answer;
                let cells = [
                    wording::kubernetes(state),
                    Cell::joined(networks_missing_for_dual_stack.clone()),
                    Cell::text(explanation(state, &networks_missing_for_dual_stack)),
                ];
                Ok(Answer::new(Body::record(&COLUMNS, cells)))
            }
        }
    }
}

/// Answers "why is it not dual-stack yet"; empty when there is nothing to explain.
fn explanation(state: i32, missing: &[String]) -> String {
    let missing = missing.join(", ");
    match KubernetesState::try_from(state) {
        Ok(KubernetesState::SingleStack | KubernetesState::ConvertingToDual)
            if !missing.is_empty() =>
        {
            format!(
                "not dual-stack while a secondary pool is missing on: {missing}; add each with \
                 `system network-addrpool-assign NETWORK POOL`"
            )
        }
        Ok(KubernetesState::ConvertingToSingle) => format!(
            "still dual-stack; a secondary pool was removed from: {missing}; it is single-stack \
             once cluster-host, cluster-pod and cluster-service all have none"
        ),
        _ => String::new(),
    }
}
